"""`python -m jobs`: plan, run, compute first-principles data, look, check, clear, deposit, compare."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.base.errors import ERROR_EXIT, SuiteError
from jobs.cli.options import OneLineParser, count

if TYPE_CHECKING:
    from jobs.campaign.build import Campaign
    from jobs.running.site import Site
    from jobs.store.store import Store

DEFAULT_TIER = "laptop"


def add_campaign_options(
    parser: argparse.ArgumentParser, *, site: bool = False, potential: bool = True
) -> None:
    """The options that say which campaign is meant, and where its products are; `site` where jobs are."""
    from jobs.campaign.tier import STARTS

    parser.add_argument(
        "--tier",
        default=None,
        help=f"how much: smoke, laptop (default), overnight, paper{' (default with --site)' * site}, "
        "reference (what is deposited), or a tier file",
    )
    if site:
        parser.add_argument(
            "--site",
            default=None,
            metavar="NAME",
            help="batch jobs of this cluster: a site file, a name in jobs/running/sites, or DP-GEN's file",
        )
    else:
        parser.set_defaults(site=None)
    parser.add_argument(
        "--start-from",
        choices=STARTS,
        default=None,
        help="what is taken as given: deposited trajectories (a minute), potentials, or frames, or nothing; "
        "default: what the tier says",
    )
    if potential:
        parser.add_argument(
            "--potential",
            type=Path,
            default=None,
            metavar="PATH",
            help="judge this LAMMPS-ready potential (a DeePMD .pb, a folder of n2p2's files, or a file with "
            "pair_style and pair_coeff) in place of both DeePMD potentials",
        )
    else:
        parser.set_defaults(potential=None)
    parser.add_argument(
        "--engine",
        default=None,
        help="what computes first-principles data with --start-from nothing: cp2k, espresso or vasp "
        "(default: what the tier says)",
    )
    add_store_option(parser)


def default_tier(*, batch: bool) -> str:
    """The tier where none is named: a cluster is there for the paper's."""
    return "paper" if batch else DEFAULT_TIER


def add_store_option(parser: argparse.ArgumentParser) -> None:
    """Where products are kept."""
    parser.add_argument(
        "--store",
        type=Path,
        default=Path("store"),
        metavar="DIR",
        help="where products are kept (default: ./store)",
    )


def _parser(*, only_make: bool = False) -> argparse.ArgumentParser:
    parser = OneLineParser(
        prog="python -m jobs",
        description="What produces: the stages behind the claims. `pytest suite/` calls `run` for you.",
        epilog="Examples: python -m jobs run --tier smoke | python -m jobs run --tier paper --dry-run | "
        "python -m jobs status",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    make = commands.add_parser("make", help="make one planned stage (what a slot or a batch job runs)")
    make.add_argument("name")
    make.add_argument(
        "--job", type=Path, default=None, metavar="DIR", help="folder of the batch job it runs in"
    )
    add_store_option(make)
    if only_make:
        # A campaign starts dozens of these, and the other commands' options take half a second to import.
        return parser

    run = commands.add_parser("run", help="make everything a tier needs that is not there yet")
    add_campaign_options(run, site=True)
    run.add_argument(
        "--only",
        action="append",
        metavar="LABEL",
        help="only what this label needs (see `graph`); may be repeated",
    )
    run.add_argument(
        "--cores", type=count, default=None, help="core slots (default: all that this process may use)"
    )
    run.add_argument(
        "--dry-run",
        action="store_true",
        help="print every stage with its command, resources and estimated cost; make nothing",
    )
    run.add_argument(
        "--rebuild-stale", action="store_true", help="make again what other software versions made"
    )
    run.add_argument(
        "--wait",
        action="store_true",
        help="with --site: stay until no job is left, submitting what becomes ready",
    )
    run.add_argument(
        "--retry-failed",
        action="store_true",
        help="with --site: submit again what failed, after you mended why",
    )

    graph = commands.add_parser("graph", help="the labels of a tier and the stages behind each")
    add_campaign_options(graph)
    graph.add_argument("--dot", action="store_true", help="as a Graphviz graph")

    status = commands.add_parser("status", help="which stages are done, stale, begun or missing")
    add_campaign_options(status, site=True)

    check = commands.add_parser("check", help="hash every product again and name what was changed")
    add_store_option(check)

    cancel = commands.add_parser("cancel", help="with --site: take this tier's jobs out of the queue")
    add_campaign_options(cancel, site=True)

    gc = commands.add_parser(
        "gc",
        help="free disk: products, also unfinished ones, that no plan names",
        description="Deletes products, also unfinished ones, that are in the plan of no built-in tier, of no "
        "run of this store (also with --potential or a tier file of your own), and not in the plan that the "
        "options here make. A plan is that of its last run: what a tier file no longer names goes. "
        "First-principles data and probes of sites always stay.",
    )
    add_campaign_options(gc)
    gc.add_argument(
        "--forget",
        action="append",
        default=[],
        metavar="NAME",
        help="a run of this store, by the name of its results, whose products may go; may be repeated",
    )
    gc.add_argument(
        "--trajectories", action="store_true", help="also trajectories whose observables are there already"
    )
    gc.add_argument("--yes", action="store_true", help="really delete (without it, only say what would go)")

    from jobs.cli import aimd, recheck, starts
    from jobs.cli import deposit as deposit_command
    from jobs.cli import import_data as importing
    from jobs.cli import timing as timing_commands
    from jobs.running import images

    aimd.add_arguments(
        commands.add_parser(
            "aimd",
            help="compute first-principles data from given starts",
            description=aimd.DESCRIPTION,
            epilog=aimd.EPILOG,
        )
    )
    starts.add_arguments(
        commands.add_parser(
            "starts",
            help="write the last states of a tier's MD runs as starts for aimd",
            description=starts.DESCRIPTION,
            epilog=starts.EPILOG,
        )
    )
    recheck.add_arguments(
        commands.add_parser(
            "recheck",
            help="recompute frames of a deposited set with other settings",
            description=recheck.DESCRIPTION,
        )
    )
    deposit_command.add_arguments(
        commands.add_parser("deposit", help="put data under reference/, or --list what is there")
    )

    importing.add_arguments(
        commands.add_parser(
            "import", help="look at your own VASP, CP2K, pw.x, extxyz or DeePMD data, take it in"
        )
    )

    promote = commands.add_parser(
        "promote",
        help="deposit the potentials that a tier trained, or its trajectories",
        description="Puts the potentials that a tier trained under reference/models/, for --start-from "
        "potentials (it started from frames, or from nothing); or, with --trajectories and --start-from "
        "potentials, the MD that it observes, thinned, under reference/trajectories/, for --start-from "
        "trajectories.",
        epilog="Examples: python -m jobs promote --tier reference --start-from frames | python -m jobs "
        "promote --tier laptop --start-from potentials --trajectories",
    )
    add_campaign_options(promote, potential=False)
    promote.add_argument(
        "--replace", action="store_true", help="also potentials that were trained for more steps than these"
    )
    promote.add_argument("--trajectories", action="store_true", help="trajectories in place of potentials")
    promote.add_argument(
        "--only",
        action="append",
        metavar="MODEL",
        help="only this potential, as deepmd-96; may be repeated",
    )
    promote.add_argument(
        "--paired", action="store_true", help="with --trajectories: those that start from frames of AIMD"
    )

    compare = commands.add_parser(
        "compare", help="two claims.json, or two stores, side by side: what moved by more than its error"
    )
    compare.add_argument("first", type=Path)
    compare.add_argument("second", type=Path)
    compare.add_argument(
        "--agree",
        action="store_true",
        help="fail unless every value agrees and something was decided in both",
    )

    images.add_arguments(commands.add_parser("images", help="the Apptainer images: build, test, list, check"))

    timing_commands.add_cost_arguments(
        commands.add_parser(
            "cost", help="time MD by every engine against the number of atoms, within a budget"
        )
    )
    timing_commands.add_tune_arguments(
        commands.add_parser(
            "tune",
            help="find the fastest ranks, threads, skin, precision and compression for this machine",
        )
    )
    return parser


def _site(arguments: argparse.Namespace) -> Site | None:
    from jobs.running.site import read_site

    return None if arguments.site is None else read_site(arguments.site)


def _campaign(arguments: argparse.Namespace) -> Campaign:
    from jobs.campaign.build import build_campaign

    return build_campaign(
        arguments.tier or default_tier(batch=arguments.site is not None),
        start_from=arguments.start_from,
        potential=arguments.potential,
        engine=arguments.engine,
    )


def _run(arguments: argparse.Namespace) -> int:
    from jobs.cli import overview
    from jobs.cost.speed import planned_with_speed
    from jobs.running import local
    from jobs.store.store import Store

    campaign = _campaign(arguments)
    wanted = campaign.select(arguments.only)
    store, site = Store(arguments.store), _site(arguments)
    if site is None:
        for partner in ("wait", "retry_failed"):
            if getattr(arguments, partner):
                raise SuiteError(
                    f"--{partner.replace('_', '-')}: found no --site, expected it beside this option"
                )
    elif arguments.cores is not None:
        raise SuiteError(f"--cores: found --site beside it, expected cores under kinds in {site.path}")
    if not arguments.dry_run:
        store.remember(campaign.results_name, (stage.name for stage in overview.all_stages(campaign)))
    if site is None:
        campaign = planned_with_speed(campaign, lambda: _campaign(arguments))
        wanted = campaign.select(arguments.only)
    if arguments.dry_run:
        overview.dry_run(campaign, wanted, store, site=site)
        return 0
    if site is None:
        outcome = local.run(wanted, store, cores=arguments.cores, rebuild_stale=arguments.rebuild_stale)
    else:
        from jobs.running import batch

        outcome = batch.run(
            wanted,
            store,
            site,
            wait=arguments.wait,
            retry_failed=arguments.retry_failed,
            rebuild_stale=arguments.rebuild_stale,
        )
    local.raise_for_failures(outcome)
    if outcome.pending:
        print(
            f"{len(outcome.pending)} stages wait or run at {arguments.site}; "
            f"{outcome.reused} were there already"
        )
    elif outcome.made:
        print(
            f"made {len(outcome.made)} stages in {outcome.seconds:.0f} s; {outcome.reused} were there already"
        )
    else:
        print(f"nothing had to run: all {outcome.reused} products of tier {campaign.tier} are unchanged")
    return 0


def _make(arguments: argparse.Namespace) -> int:
    from jobs.running.worker import make_stage, make_stage_in_job
    from jobs.store.store import Store

    store = Store(arguments.store)
    if arguments.job is None:
        make_stage(store, arguments.name)
    else:
        make_stage_in_job(store, arguments.name, directory=arguments.job)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from jobs.reference.potentials import changed_models
    from jobs.reference.sets import list_sets, verify_set
    from jobs.reference.trajectories import changed_trajectories
    from jobs.store.store import Store

    store = Store(arguments.store)
    if not store.root.is_dir():
        raise SuiteError(f"{arguments.store}: found no such folder, expected a store")
    names = list(store.finished())
    problems = [line for name in names for line in store.problems(name)]
    for deposited in list_sets():
        try:
            verify_set(deposited)
        except SuiteError as error:
            problems.append(str(error))
    problems += changed_models()
    problems += changed_trajectories()
    for line in problems:
        print(line)
    if problems:
        return 1
    print(f"{len(names)} products and all that is deposited: all hashes as recorded")
    return 0


def _look(arguments: argparse.Namespace) -> int:
    from jobs.cli import overview
    from jobs.store.store import Store

    campaign, store = _campaign(arguments), Store(arguments.store)
    if arguments.command == "graph":
        overview.graph(campaign, dot=arguments.dot)
    elif arguments.command == "status":
        overview.status(campaign, store, site=_site(arguments))
    elif arguments.command == "cancel":
        return _cancel(arguments, campaign, store)
    elif arguments.command == "promote":
        _promote(arguments, campaign, store)
    else:
        overview.collect_garbage(
            campaign,
            store,
            forget=arguments.forget,
            trajectories=arguments.trajectories,
            really=arguments.yes,
        )
    return 0


def _promote(arguments: argparse.Namespace, campaign: Campaign, store: Store) -> None:
    from jobs.campaign.build import SAMPLERS
    from jobs.campaign.promote import deposit_trajectories
    from jobs.reference.potentials import deposit_models

    if arguments.trajectories:
        if arguments.replace:
            raise SuiteError("--trajectories: found --replace beside it, expected it alone: they always do")
        print(deposit_trajectories(campaign, store, paired=arguments.paired))
        return
    if arguments.paired:
        raise SuiteError("--paired: found no --trajectories, expected it beside this option")
    trained = {f"deepmd-{size}": campaign.select([f"train-{size}"])[0] for size in (96, 216)}
    if "train-hdnnp-96" in campaign.labels:
        trained["hdnnp-96"] = campaign.select(["train-hdnnp-96"])[0]
    for stage in campaign.labels.get(SAMPLERS, ()):
        trained[f"hdnnp-sampler-{stage.seed}"] = stage
    if arguments.only:
        if unknown := set(arguments.only) - set(trained):
            raise SuiteError(
                f"--only: found {', '.join(sorted(unknown))}, expected some of {', '.join(trained)}"
            )
        trained = {name: stage for name, stage in trained.items() if name in arguments.only}
    print(*deposit_models(trained, store, tier=campaign.tier, replace=arguments.replace), sep="\n")


def _cancel(arguments: argparse.Namespace, campaign: Campaign, store: Store) -> int:
    from jobs.cli import overview
    from jobs.running import batch

    site = _site(arguments)
    if site is None:
        raise SuiteError("cancel: found no --site, expected the cluster whose jobs are meant")
    stages = overview.all_stages(campaign)
    ids = batch.cancel(site, store, [*stages, *batch.planned_probes(site, stages)])
    print(f"{len(ids)} jobs taken out of the queue; the same `run` submits them again")
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from jobs.cli.overview import compare

    return compare(arguments.first, arguments.second, agree=arguments.agree)


def main(argv: list[str] | None = None) -> int:
    """Run one command; one line and exit code 2 for wrong input."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser(only_make=words[:1] == ["make"]).parse_args(words)
    try:
        match arguments.command:
            case "run":
                return _run(arguments)
            case "make":
                return _make(arguments)
            case "check":
                return _check(arguments)
            case "cost" | "tune":
                from jobs.cli import timing as timing_commands

                mains = {"cost": timing_commands.cost_main, "tune": timing_commands.tune_main}
                return mains[arguments.command](arguments)
            case "compare":
                return _compare(arguments)
            case "aimd" | "starts" | "recheck" | "deposit":
                from jobs.cli import aimd, recheck, starts
                from jobs.cli import deposit as deposit_command

                modules = {"aimd": aimd, "starts": starts, "recheck": recheck, "deposit": deposit_command}
                return modules[arguments.command].main(arguments)
            case "images":
                from jobs.running import images

                return images.main(arguments)
            case "import":
                from jobs.cli import import_data as importing

                return importing.main(arguments)
            case _:
                return _look(arguments)
    except SuiteError as error:
        print(f"error: {error}" if arguments.command != "make" else str(error), file=sys.stderr)
        return ERROR_EXIT
    except OSError as error:
        # A full disk, a folder that is not there: no fault of the code, unless a stage met it.
        if arguments.command == "make" or error.filename is None:
            raise
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return ERROR_EXIT
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130

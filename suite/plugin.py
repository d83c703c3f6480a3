"""pytest's side of the suite: make the products of a campaign, judge each check, say what came out."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jobs.base.errors import SuiteError
from jobs.base.files import write_json
from jobs.base.paths import require_checkout
from jobs.campaign.tier import STARTS
from jobs.cli.options import count, default_tier, needs

if TYPE_CHECKING:
    from jobs.campaign.plan import Campaign
    from jobs.running.site import Site
    from jobs.store.outcome import Outcome
    from jobs.store.stage import Stage
    from jobs.store.store import Store
    from suite.judging.checks import Check
    from suite.judging.evidence import Evidence
    from suite.judging.verdict import Result

COLOURS = {
    "PASS": {"green": True},
    "FAIL": {"red": True},
    "ERROR": {"red": True},
    "TOO SHORT": {"yellow": True},
    "INCONCLUSIVE": {"yellow": True},
}
PLUGIN_NAME = "silica-claims"
# Of the paper's claims: some decided and none failed; one failed. Then: something broke; nothing was decided;
# a check that is not the paper's failed.
EXIT_DECIDED, EXIT_FAILED, EXIT_ERROR, EXIT_NOTHING_DECIDED, EXIT_OTHER_FAILED = 0, 1, 6, 7, 8


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `pytest suite/`."""
    group = parser.getgroup("silica", "claims of the silica paper")
    group.addoption(
        "--tier",
        default=None,
        help="smoke, laptop (default), overnight (default with --start-from trajectories), paper (default "
        "with --hpc), reference (what is deposited), or a tier file",
    )
    group.addoption("--hpc", action="store_true", help="run stages as batch jobs of a cluster; see --site")
    group.addoption(
        "--site",
        default=None,
        help="with --hpc: a site file, a name in jobs/running/sites, or DP-GEN's file (or: $SILICA_SITE)",
    )
    group.addoption("--wait", action="store_true", help="with --hpc: stay until no job is left")
    group.addoption(
        "--retry-failed",
        action="store_true",
        help="with --hpc: submit again what failed, after you mended why",
    )
    group.addoption(
        "--start-from", choices=STARTS, default=None, help="what is given; default: what the tier says"
    )
    group.addoption(
        "--potential",
        type=Path,
        default=None,
        help="judge this potential (.pb, n2p2's folder or LAMMPS commands) in place of both",
    )
    group.addoption(
        "--engine",
        default=None,
        help="of first-principles data, with --start-from nothing: cp2k, espresso, vasp",
    )
    group.addoption(
        "--store", type=Path, default=Path("store"), help="where products are kept (default: ./store)"
    )
    group.addoption(
        "--results", type=Path, default=Path("results"), help="where verdicts go (default: ./results)"
    )
    group.addoption("--cores", type=count, default=None, help="core slots (default: all)")
    group.addoption("--dry-run", action="store_true", help="print the tier's plan; compute and judge nothing")
    group.addoption(
        "--rebuild-stale", action="store_true", help="make again what other software versions made"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse an installed copy of the suite: claims and what is given are in the checkout."""
    try:
        require_checkout()
    except SuiteError as error:
        raise pytest.UsageError(str(error)) from None


def _site(option: Any) -> Site | None:
    """The cluster that is meant, or None."""
    from jobs.running.site_files import known_sites, read_site

    if not option.hpc:
        needs(option, "hpc", "site", "wait", "retry_failed")
        return None
    if option.cores is not None:
        raise SuiteError("--cores says nothing with --hpc: give cores under kinds in the site file")
    name = option.site or os.environ.get("SILICA_SITE")
    if not name:
        raise SuiteError(
            f"--hpc needs --site: one of {', '.join(known_sites())}, or a site file (docs/cluster.md)"
        )
    return read_site(name)


def _is_claim(item: pytest.Item) -> bool:
    return item.get_closest_marker("needs") is not None


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let `-k` find a claim by the id that the report gives it."""
    if _is_claim(item) and isinstance(item, pytest.Function):
        check: Any = item.callspec.params["check"]
        item.extra_keyword_matches.add(check.id)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make what the selected checks need; never for `tests/` or `--collect-only`."""
    from suite.judging.checks import load_claims

    claims = [item for item in session.items if _is_claim(item)]
    if not claims or session.config.option.collectonly:
        return
    checks: list[Any] = [
        item.callspec.params["check"] for item in claims if isinstance(item, pytest.Function)
    ]
    capture = session.config.pluginmanager.getplugin("capturemanager")
    try:
        with capture.global_and_fixture_disabled():
            begun = ClaimSession.begin(
                session.config.option, checks, complete=len(checks) == len(load_claims())
            )
    except SuiteError as error:
        raise pytest.UsageError(str(error)) from None
    if begun is None:
        session.items.clear()
    session.config.pluginmanager.register(begun or DryRun(), PLUGIN_NAME)
    # The table of checks says why each is skipped; pytest's own list of them would bury it.
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    reporter.reportchars = reporter.reportchars.replace("s", "").replace("f", "")


class DryRun:
    """Stands in a dry run's place: that no test ran is what was asked for."""

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Exit code 0 in place of pytest's 5."""
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK


def replicas(campaign: Campaign) -> dict[str, list[int]]:
    """Which replica each stage of a product is, by product: a deposit may lack some."""
    return {
        label: [int(found[1]) for stage in stages if (found := re.search(r" #(\d+)\)?$", stage.label))]
        for label, stages in campaign.labels.items()
    }


class ClaimSession:
    """One pytest run's campaign, its evidence, and the verdicts so far; registered as a plugin."""

    def __init__(
        self, *, campaign: Campaign, store: Store, outcome: Outcome, evidence: Evidence, results_root: Path
    ) -> None:
        self.campaign = campaign
        self.store = store
        self.outcome = outcome
        self.evidence = evidence
        self.results_root = results_root
        self.results: list[Result] = []
        self.core_seconds: dict[str, float] = {}  # by stage: hundreds of claims share a few dozen stages

    @classmethod
    def begin(cls, option: Any, checks: Sequence[Check], *, complete: bool) -> ClaimSession | None:
        """Make what the claims' checks need; None after a dry run.

        Raises:
            SuiteError: wrong tier, store or potential.
        """
        from jobs.campaign.build import build_campaign
        from jobs.cli import overview
        from jobs.cli.campaign.run import outcome_of
        from jobs.cost.speed import planned_with_speed
        from jobs.store.store import Store
        from suite.judging.evaluate import held_out_checks
        from suite.judging.evidence import Evidence

        site = _site(option)

        def plan() -> Campaign:
            return build_campaign(
                option.tier or default_tier(batch=option.hpc, start_from=option.start_from),
                start_from=option.start_from,
                potential=option.potential,
                engine=option.engine,
                kernel_of=overview.kernel_at(site),
            )

        campaign = plan()
        if site is None:
            campaign = planned_with_speed(campaign, plan)
        store = Store(option.store)
        # A whole suite also makes what only the report draws; a selection of claims only what they need.
        read = [*checks]
        if campaign.short_training:  # a value outside its band then asks for the held-out errors
            read += [forces for check in checks for forces in held_out_checks(check)]
        needs = {label for check in read for label in check.needs}
        labels = [label for label in campaign.labels if label in needs or complete]
        wanted = campaign.select(labels)
        if option.dry_run:
            overview.dry_run(campaign, wanted, store, site=site)
            print_foreseen(campaign, checks)
            return None
        store.remember(campaign.results_name, (stage.name for stage in campaign.all_stages()))
        print(f"\ntier {campaign.tier}, from {campaign.start_from}", file=sys.stderr)
        outcome = outcome_of(option, wanted, store, site)
        if not (outcome.made or outcome.failed or outcome.pending):
            print(
                f"nothing had to run: all {outcome.reused} products are there and unchanged", file=sys.stderr
            )
        broken, pending = {}, {}
        for label in labels:
            stages = campaign.labels[label]
            if reasons := [reason for stage in stages if (reason := outcome.reason(stage))]:
                broken[label] = reasons[0]
            elif waits := [outcome.pending[stage.name] for stage in stages if stage.name in outcome.pending]:
                pending[label] = waits[0]
        evidence = Evidence(
            products={
                label: [store.path(stage.name) for stage in campaign.labels[label]]
                for label in labels
                if label not in broken and label not in pending
            },
            tier=campaign.tier,
            deviations=tuple(campaign.deviations),
            short_training=campaign.short_training,
            absent=campaign.unavailable,
            broken=broken,
            pending=pending,
            density_g_cm3=campaign.about.density_g_cm3,
            replicas=replicas(campaign),
        )
        return cls(
            campaign=campaign, store=store, outcome=outcome, evidence=evidence, results_root=option.results
        )

    @property
    def directory(self) -> Path:
        """Where the verdicts go: a part of the claims, selected or cut short, never replaces the whole."""
        from suite.judging.checks import load_claims

        whole = len(self.results) == len(load_claims())
        return self.results_root / (self.campaign.results_name + ("" if whole else "-selection"))

    def judge(self, item: pytest.Function) -> Result:
        """The verdict of one case, recorded."""
        from suite.judging.evaluate import honest_result

        check: Any = item.callspec.params["check"]
        result = honest_result(self.evidence, check)
        result = replace(result, seconds=self._core_seconds(result.needs))
        self.results.append(result)
        return result

    def stages_behind(self, labels: tuple[str, ...]) -> list[Stage]:
        """What is behind some labels, inputs included."""
        from jobs.store.todo import in_order

        return in_order(stage for label in labels for stage in self.campaign.labels.get(label, []))

    def _core_seconds(self, labels: tuple[str, ...]) -> float:
        """What the products behind some labels cost, inputs included, shared ones counted in full."""
        stages = self.stages_behind(labels)
        for stage in stages:
            if stage.name not in self.core_seconds:
                done = self.store.is_done(stage.name)
                self.core_seconds[stage.name] = self.store.manifest(stage.name)["core_s"] if done else 0.0
        return sum(self.core_seconds[stage.name] for stage in stages)

    def labels_behind(self, labels: tuple[str, ...]) -> set[str]:
        """These labels, and those whose products went into them."""
        names = {stage.name for stage in self.stages_behind(labels)}
        return {
            label
            for label, stages in self.campaign.labels.items()
            if not names.isdisjoint(stage.name for stage in stages)
        }

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        """Judge a check instead of calling its case."""
        from suite.judging.verdict import Verdict

        if not _is_claim(pyfuncitem) or "check" not in getattr(
            getattr(pyfuncitem, "callspec", None), "params", {}
        ):
            return None
        result = self.judge(pyfuncitem)
        if result.verdict in (Verdict.FAIL, Verdict.ERROR):
            pytest.fail(f"{result.verdict} {result.id}: {one_line(result)}", pytrace=False)
        if result.verdict is not Verdict.PASS:
            pytest.skip(f"{result.verdict}: {result.reason}")
        return True

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Write claims.json and the report; the exit code says what was decided."""
        from suite.judging.checks import load_claims
        from suite.judging.verdict import PAPER, Verdict, with_family, with_preconditions

        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        place = {check.id: number for number, check in enumerate(load_claims())}  # preconditions come first
        self.results.sort(key=lambda result: place[result.id])
        self.results = with_family(with_preconditions(self.results, self.labels_behind))
        write_claims(self)
        verdicts = [result.verdict for result in self.results]
        # Also what no claim reads: runs that only the report draws.
        broke = Verdict.ERROR in verdicts or bool(self.outcome.failed)
        failed_otherwise = session.testsfailed > sum(v in (Verdict.FAIL, Verdict.ERROR) for v in verdicts)
        papers = [result.verdict for result in self.results if result.category == PAPER]
        if broke or failed_otherwise:
            session.exitstatus = EXIT_ERROR
        elif Verdict.FAIL in papers:
            session.exitstatus = EXIT_FAILED
        elif Verdict.FAIL in verdicts:
            session.exitstatus = EXIT_OTHER_FAILED
        elif any(verdict.decided for verdict in papers):
            session.exitstatus = EXIT_DECIDED
        else:
            session.exitstatus = EXIT_NOTHING_DECIDED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """The paper's checks by figure, every check that gave a verdict, and why the others gave none."""
        from suite.judging.verdict import Verdict
        from suite.report.findings import findings
        from suite.report.page import STATES, headline, untested

        write = terminalreporter.write_line
        terminalreporter.section(f"the paper's claims at tier {self.campaign.tier}, by figure")
        states = [state for state in STATES if any(result.verdict is state for result in self.results)]
        write(f"{'':<42}" + "".join(f"{state:>14}" for state in states))
        for figure in findings([result.as_json() for result in self.results]):
            write(f"{figure.title:<42}" + "".join(f"{figure.counts[state] or '-':>14}" for state in states))
        terminalreporter.section("every check")
        for result in self.results:
            if result.verdict is not Verdict.NOT_TESTED:
                line = f"{result.verdict:<13} {result.id:<48} {one_line(result)}"
                write(line, **COLOURS.get(result.verdict, {}))
        left = [result.as_json() for result in self.results if result.verdict is Verdict.NOT_TESTED]
        for reason, ids in untested(left):
            write(f"{Verdict.NOT_TESTED:<13} {f'{len(ids)} check' + 's' * (len(ids) > 1):<48} {reason}")
        for label, reason in self.evidence.broken.items():
            write(f"{'BROKEN':<13} {label:<48} {reason}", red=True)
        write(headline((result.category, result.verdict) for result in self.results if not result.same_as))
        write(f"report: {self.directory / 'report.html'}")


def print_foreseen(campaign: Campaign, checks: Sequence[Check]) -> None:
    """How many checks are certain to be NOT TESTED, by reason."""
    from suite.judging.checks import foreseen

    reasons = Counter(reason for check in checks if (reason := foreseen(check, campaign)))
    print(f"cannot be tested: {reasons.total()} of {len(checks)} checks{', because' if reasons else ''}")
    for reason, number in reasons.most_common():
        print(f"  {number:>3}  {reason}")


def one_line(result: Result) -> str:
    """Value with interval, band and cost, or the reason."""
    if result.value is None:
        return result.reason
    low = "-inf" if result.band_low is None else f"{result.band_low:g}"
    high = "inf" if result.band_high is None else f"{result.band_high:g}"
    unit = result.unit and f" {result.unit}"
    text = (
        f"{result.value:.4g} [{result.ci_low:.4g}, {result.ci_high:.4g}]{unit}, "
        f"band {low} to {high}, {result.seconds:.0f} core-s"
    )
    return f"{text}; {result.reason}" if result.reason else text


def kernels_that_ran(session: ClaimSession) -> dict[str, str]:
    """What ran the MD of NNPs behind the claims: kernel -> how many runs."""
    names = {
        stage.name
        for stage in session.stages_behind(tuple(session.campaign.labels))
        if "potential" in stage.inputs
    }
    ran = Counter(
        str(kernel)
        for name in sorted(names)
        if session.store.is_done(name) and (kernel := session.store.manifest(name)["facts"].get("kernel"))
    )
    return {kernel: f"{count} runs" for kernel, count in ran.items()}


def provenance(session: ClaimSession) -> dict[str, Any]:
    """What a reader needs to trace the numbers: versions, machine, products, command."""
    from importlib import metadata

    from jobs.base.machine import hardware, software_versions, suite_commit

    installed = metadata.distributions(name="silica-nnp-suite")
    return {
        "suite": {
            "version": next((found.version for found in installed), "not installed"),
            "commit": suite_commit(),
        },
        "command": " ".join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "software": software_versions(),
        "hardware": hardware(),
        "kernel": kernels_that_ran(session),
        "products": {
            label: [stage.name for stage in stages]
            for label, stages in session.campaign.labels.items()
            if label in session.evidence
        },
        "seconds": round(session.outcome.seconds, 1),
    }


def write_claims(session: ClaimSession) -> None:
    """Write `claims.json` and `report.html` into the tier's results folder."""
    from suite.judging.faults import report_faults
    from suite.report.page import RESULTS_FILE, SCHEMA, write_report

    session.directory.mkdir(parents=True, exist_ok=True)
    content = {
        "schema": SCHEMA,
        "tier": session.campaign.tier,
        "start_from": session.campaign.start_from,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "deviations": session.campaign.deviations,
        "broken": dict(session.evidence.broken),
        "claims": [result.as_json() for result in session.results],
        "faults": [report.as_json() for report in report_faults(session.evidence)],
        "provenance": provenance(session),
    }
    write_json(session.directory / RESULTS_FILE, content, indent=1)
    write_report(session.directory, session.evidence)

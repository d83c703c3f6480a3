"""One check of `reference/claims.yml`, and its verdict on some evidence."""

import importlib
import pkgutil

import suite.claims
from suite.judging.checks import Check, load_claims
from suite.judging.evaluate import REGISTRY, evaluate
from suite.judging.evidence import Evidence
from suite.judging.verdict import Result

for module in pkgutil.iter_modules(suite.claims.__path__):  # they register their claims
    importlib.import_module(f"suite.claims.{module.name}")


def check_of(identity: str) -> Check:
    """The check of this id."""
    return next(check for check in load_claims() if check.id == identity)


def judged(evidence: Evidence, identity: str) -> Result:
    """Its result on this evidence."""
    check = check_of(identity)
    return evaluate(REGISTRY[check.claim], check, evidence)

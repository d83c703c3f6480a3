"""pytest cases of a claim: one for each of its checks, which the plugin judges."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import suite.claims  # noqa: F401 - fills REGISTRY
from suite.judging.checks import Check, checks_of


def cases_of(claim_id: str) -> Callable[[Check], None]:
    """A test function with a case for each check of a claim.

    Every case carries `pytest.mark.needs(*labels)` with the products that its check reads. The function is
    never called: `ClaimSession.pytest_pyfunc_call` measures and judges in its place.
    """
    cases = [
        pytest.param(check, id=check.id.removeprefix(f"{claim_id}/"), marks=pytest.mark.needs(*check.needs))
        for check in checks_of(claim_id)
    ]

    @pytest.mark.parametrize("check", cases)
    def case(check: Check) -> None:
        raise AssertionError(f"{check.id} was called without the suite's plugin")

    return case

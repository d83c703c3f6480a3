"""Why a check has no verdict: exceptions whose message is the reason."""

from __future__ import annotations

from jobs.base.errors import SuiteError


class NotTested(Exception):  # noqa: N818
    """This tier or this data cannot test the claim; the message is the reason."""


class Pending(Exception):  # noqa: N818
    """A product that the claim needs is submitted and not there yet; the message names the job."""


UNAVAILABLE = (NotTested, Pending, SuiteError)  # reasons for missing data; the report shows them and goes on

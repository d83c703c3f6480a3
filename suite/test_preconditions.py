"""What must hold before any claim is judged."""

from suite.cases import cases_of

test_precondition = cases_of("precondition")

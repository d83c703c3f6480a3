"""Planted faults: each must be caught."""

from suite.cases import cases_of

test_fault = cases_of("fault")

"""Held-out errors of the potentials."""

from suite.cases import cases_of

test_parity = cases_of("parity")

"""What a step costs, and how it grows with N."""

from suite.cases import cases_of

test_cost_ratio = cases_of("cost-ratio")
test_cost_scaling = cases_of("cost-scaling")

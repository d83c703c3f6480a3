"""Fig. 5: mean square displacement."""

from suite.cases import cases_of

test_msd_paired = cases_of("msd-paired")
test_msd_nnp_aimd = cases_of("msd-nnp-aimd")
test_msd_bks = cases_of("msd-bks")
test_msd_regimes = cases_of("msd-regimes")
test_transport_accuracy = cases_of("transport-accuracy")
test_msd_reach = cases_of("msd-reach")

"""Fig. 3: the glass at 300 K."""

from suite.cases import cases_of

test_glass_neutron = cases_of("glass-neutron")
test_glass_partials = cases_of("glass-partials")
test_glass_rate = cases_of("glass-rate")
test_glass_216_better = cases_of("glass-216-better")
test_network_kept = cases_of("network-kept")

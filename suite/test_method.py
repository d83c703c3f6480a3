"""How the potentials were made: data, starts, iteration, and the other descriptor."""

from suite.cases import cases_of

test_inherited = cases_of("inherited")
test_small_data = cases_of("small-data")
test_iterate = cases_of("iterate")
test_n2p2_same = cases_of("n2p2-same")
test_n2p2_stability = cases_of("n2p2-stability")

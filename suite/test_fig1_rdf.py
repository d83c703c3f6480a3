"""Fig. 1: partial g(r) of the liquid at 3000 K."""

from suite.cases import cases_of

test_rdf_paired = cases_of("rdf-paired")
test_rdf_bks_paired = cases_of("rdf-bks-paired")
test_rdf_96_216_paired = cases_of("rdf-96-216-paired")
test_rdf_nnp_aimd = cases_of("rdf-nnp-aimd")
test_rdf_bks = cases_of("rdf-bks")
test_rdf_96_216 = cases_of("rdf-96-216")
test_strong_interaction = cases_of("strong-interaction")

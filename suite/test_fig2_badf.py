"""Fig. 2: bond angles and coordination of the liquid at 3000 K."""

from suite.cases import cases_of

test_badf_paired = cases_of("badf-paired")
test_badf_bks_paired = cases_of("badf-bks-paired")
test_badf_nnp_aimd = cases_of("badf-nnp-aimd")
test_badf_bks = cases_of("badf-bks")
test_badf_tetrahedron = cases_of("badf-tetrahedron")
test_badf_96_216 = cases_of("badf-96-216")
test_coordination_nnp_aimd = cases_of("coordination-nnp-aimd")
test_coordination_paired = cases_of("coordination-paired")

"""Fig. 4: velocity autocorrelation and its spectrum."""

from suite.cases import cases_of

test_vaf_paired = cases_of("vaf-paired")
test_vaf_bks_paired = cases_of("vaf-bks-paired")
test_vdos_nnp_aimd = cases_of("vdos-nnp-aimd")
test_vaf_nnp_aimd = cases_of("vaf-nnp-aimd")
test_vaf_bks = cases_of("vaf-bks")
test_vaf_nve_nvt = cases_of("vaf-nve-nvt")
test_vdos_size = cases_of("vdos-size")

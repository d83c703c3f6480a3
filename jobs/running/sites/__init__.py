"""Site files that come with the suite, DP-GEN's machine files, and scripts to submit by hand."""

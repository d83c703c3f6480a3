"""What asv tracks: the cost record that was measured elsewhere, the analysis kernels, the suite's own speed."""

"""What asv tracks: a cost record measured elsewhere, the analysis kernels, the suite's own speed."""

"""What moves atoms: melts, MD, quenches, pairs."""

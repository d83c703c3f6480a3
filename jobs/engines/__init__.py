"""One file per outside program: how it is found, fed, run and read."""

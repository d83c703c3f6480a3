"""Outside programs, how each is found, fed, run and read; and HDNNP-96, which is trained here itself."""

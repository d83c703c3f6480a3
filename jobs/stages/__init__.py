"""One file per kind of stage; each has `CODE_VERSION` and `run(workspace)`."""

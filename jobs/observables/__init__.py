"""Pure functions of arrays: no files, no engines, nothing of the project."""

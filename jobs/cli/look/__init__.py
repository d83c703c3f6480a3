"""Commands that look and compare, and change nothing: graph, check, compare."""

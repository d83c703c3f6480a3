"""Commands that compute from first principles: starts, aimd, recheck."""

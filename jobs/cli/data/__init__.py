"""Commands that bring data in: import, deposit, promote."""

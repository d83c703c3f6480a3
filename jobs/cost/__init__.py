"""What a run costs: estimates before, measurements after, and the search for the fastest setting."""

"""What each check can see: simulated campaigns, honest and faulty, and their verdicts."""

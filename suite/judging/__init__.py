"""What turns numbers into verdicts: checks and bands, evidence, statistics, the decision rule."""

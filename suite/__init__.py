"""What judges: claims with frozen bands, the statistics behind a verdict, and the report."""

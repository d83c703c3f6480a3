"""Does each claim hold? Claims with frozen bands, the statistics behind a verdict, and the report."""

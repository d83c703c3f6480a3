"""DeePMD-kit: training input, `dp`, and evaluation of frozen models."""

"""Potentials: trained or given, and how good they are."""

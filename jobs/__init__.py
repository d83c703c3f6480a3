"""What produces: stages, the engines they drive, and the store that keeps their products."""

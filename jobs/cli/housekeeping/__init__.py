"""Commands that keep house: gc, images."""

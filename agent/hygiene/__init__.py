"""Whether recordings are fit to learn from: measured, twins and odd ones found, noted in words."""

"""Offers bundles to devices, watches how they fare there, and takes them back."""

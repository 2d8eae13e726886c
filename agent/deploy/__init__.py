"""Bundles on the device: verified, opened, exchanged, put back."""

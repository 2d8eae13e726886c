"""What the reports that presets follow have published: figures and settings, as data."""

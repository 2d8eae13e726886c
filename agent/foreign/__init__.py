"""Sounds from elsewhere: what else is heard while a window is unlike the healthy machine."""

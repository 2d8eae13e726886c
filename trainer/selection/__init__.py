"""Encoder features and scorer chosen for one machine, by its healthy sound alone."""

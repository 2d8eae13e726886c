"""Fuzzing of every parser that outsiders reach, led by coverage (Atheris)."""

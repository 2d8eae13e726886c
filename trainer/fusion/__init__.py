"""Fusion of finished scores: result files of several systems compared, weighed, combined."""

"""Recordings of machines on disk: found, named, opened once and judged, before any training."""

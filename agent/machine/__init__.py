"""One machine: its settings, the scoring of its windows, its counters and observers."""

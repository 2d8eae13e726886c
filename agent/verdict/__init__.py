"""What a detector does at its threshold: counts, rates, intervals, and a verdict in plain words."""

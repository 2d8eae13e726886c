"""From healthy scores to thresholds with a stated false-alarm rate."""

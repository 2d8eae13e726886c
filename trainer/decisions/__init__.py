"""What a trained encoder would do at its threshold, before it is exported."""

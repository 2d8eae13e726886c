"""Replays recorded sequences through the drift monitor, and compares it with simple charts."""

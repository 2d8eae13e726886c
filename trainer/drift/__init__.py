"""Fits the drift monitor's baseline, replays recorded sequences, compares with simple charts."""

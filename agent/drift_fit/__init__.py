"""Fits the drift monitor's baseline to healthy features in time order."""

"""Sparkplug B: the device as an edge node, its machines as devices of it."""

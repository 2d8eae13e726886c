"""Many machines: learnt together, rolled out to their devices, watched on one page."""

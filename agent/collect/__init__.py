"""Recording labelled sound on the device, checked while it is recorded."""

"""Level: how loud the machine is heard, kept apart from how it sounds."""

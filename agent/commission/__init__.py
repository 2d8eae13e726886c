"""Commissioning: a bundle listens beside its machine for some days before it may raise alarms."""

"""Listening to all devices of a plant: from the broker into the database, and commands back."""

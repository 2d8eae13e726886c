"""Learns every machine of a plant by the command line, here or on a Ray cluster."""

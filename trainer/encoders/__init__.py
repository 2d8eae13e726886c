"""Encoders: a waveform batch to an embedding batch, front end included."""

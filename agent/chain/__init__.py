"""The chain from microphone to feature: what a stream's sound is like, and how it differs."""

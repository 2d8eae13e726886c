"""Recordings instead of a microphone: scored and explained by the code that runs in service."""

"""Score: embeddings against the memory bank. What calibrates is the very code that serves."""

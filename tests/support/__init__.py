"""What tests share: a tiny real bundle, a real broker, a real sound server."""

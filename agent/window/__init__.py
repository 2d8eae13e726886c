"""Sound into windows of the encoder's length: from a stream, or from a whole recording."""

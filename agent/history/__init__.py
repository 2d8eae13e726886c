"""What became of each machine over the last hour, month and years: small, bounded, on disk."""

"""What a machine does, from one half second to the next: runs, stands still, starts up or stops."""

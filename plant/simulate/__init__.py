"""Many devices at once, as they were recorded: to size a server, and to prove that it holds."""

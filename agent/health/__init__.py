"""Is the agent itself well? What it tells systemd, Prometheus and the journal of itself."""

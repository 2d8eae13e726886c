"""The agent watched from outside: watchdog, metrics, systemd."""

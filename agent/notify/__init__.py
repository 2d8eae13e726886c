"""Notifications by e-mail, message or webhook, through Apprise: what is told, when, and to whom."""

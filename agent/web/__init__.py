"""The device's own page: what the agent hears, judges and keeps, for people; off by default.

Starlette and uvicorn are imported by `agent.web.server` and what it needs, and that only when the
configuration asks for a page.
"""

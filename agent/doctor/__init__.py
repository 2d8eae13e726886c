"""`auscult doctor`: everything that the agent needs, looked at."""

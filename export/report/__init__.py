"""`auscult evaluate` as a page to look at and listen to."""

"""The results page repeated on a user's recordings: planned, run in cells, kept and reported."""

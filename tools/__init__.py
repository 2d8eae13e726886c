"""Tools of the house: what writes the reference pages. Not shipped."""

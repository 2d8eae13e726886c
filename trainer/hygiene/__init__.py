"""The page of what the hygiene stage found."""

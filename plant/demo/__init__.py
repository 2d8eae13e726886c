"""A plant from an empty folder: three machines learnt, rolled out, watched, put back."""

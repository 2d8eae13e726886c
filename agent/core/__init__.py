"""What every room stands on: records, errors, storage, clock, text."""

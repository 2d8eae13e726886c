"""What was heard when an alarm was raised, kept for the person who asks why."""

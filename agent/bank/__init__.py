"""Growing a bundle's memory bank beside the machine: versions, checks, rollback."""

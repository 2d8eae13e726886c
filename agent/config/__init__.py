"""The configuration, section by section: the schema of agent.yaml and of a scorer."""

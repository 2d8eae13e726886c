"""Home Assistant's MQTT discovery: a device for the agent, one for each machine below it."""

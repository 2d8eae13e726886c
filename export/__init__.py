"""From a trained run to a bundle a device can trust, and the proof that it detects.

The top floor: it may use the trainer and the agent, and neither knows of it. Whatever needs all
three (evaluation through the exported bundle, the demonstration) lives here.
"""

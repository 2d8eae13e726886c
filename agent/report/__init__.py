"""Reports: one file of HTML each, with pictures, sound and charts inside; one look for all.

Whoever makes one is a command: the agent that listens imports nothing of this room.
"""

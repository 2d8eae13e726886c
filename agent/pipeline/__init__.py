"""The path of one machine's sound, from the microphone to what is told."""

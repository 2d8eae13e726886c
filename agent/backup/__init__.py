"""A device's work as one file, and from that file on another device."""

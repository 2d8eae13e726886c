"""Slow change of a machine's sound: mixtures evolve from a healthy one; how far did they go?"""

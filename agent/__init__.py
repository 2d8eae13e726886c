"""The device side of auscult: listen, window, encode, score, decide, publish.

This package is the ground floor. It holds everything that training and serving must share
(windows, scorers, the bundle format) and imports neither torch nor the trainer or exporter.
"""

__version__ = "0.1.0"

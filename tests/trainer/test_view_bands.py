"""The agent's bands of our own views are those that the trainer's encoder makes."""

from __future__ import annotations

import numpy as np

from agent.learn.encoders import shipped_encoder
from agent.level.bands import view_bands
from trainer.encoders.views import band_matrix


class Shipped:
    """As much of a manifest as is asked for."""

    views = shipped_encoder("auscult_scratch").graph.views


def test_each_band_holds_the_bins_between_its_edges():
    bands = view_bands(Shipped)
    assert bands is not None
    matrix = band_matrix(64)
    hertz = np.arange(len(matrix)) * 16000 / 512
    assert matrix.shape[1] == len(bands.hertz) - 1 == bands.levels.stop - bands.levels.start
    for band, (low, high) in enumerate(zip(bands.hertz[:-1], bands.hertz[1:], strict=True)):
        inside = hertz[matrix[:, band] > 0]
        assert low <= inside.min()
        assert inside.max() <= high
    assert [(one.start, one.stop) for one in bands.shapes] == [
        (0, 64), (64, 128), (128, 192), (192, 256)
    ]  # fmt: skip
    assert bands.loudness == 320

"""The Hann window that spectra share."""

import numpy as np
import pytest

from agent.core.taper import hann


@pytest.mark.parametrize("size", [1, 2, 1024, 1000])
def test_it_is_numpys_and_nobody_may_write_on_it(size):
    assert np.array_equal(hann(size), np.hanning(size))
    with pytest.raises(ValueError, match="read-only"):
        hann(size)[0] = 1.0
    assert hann(size) is hann(size)

"""Where the encoder itself finds a window unusual: distances of patches, regions, words."""

from __future__ import annotations

import numpy as np
import pytest

from agent.core.reasons import UnusualRegion
from agent.explain.patches import COLUMNS, HealthyPatches, nearest, whole
from agent.explain.regions import unusual_regions, words
from agent.explain.unusual import UnusualMap

ROWS, WIDTH = 3, 5


@pytest.fixture
def healthy():
    """Patches about the origin, rows of an octave, marked from five deviations on."""
    rng = np.random.default_rng(0)
    table = np.zeros((ROWS, len(COLUMNS)), np.float32)
    table[:, 0], table[:, 1] = (500, 1000, 2000), (1000, 2000, 4000)
    table[:, 2:] = (1.0, 0.5, 5.0, 0.16)
    basis = np.concatenate([np.zeros((1, WIDTH)), np.eye(WIDTH)]).astype(np.float32)
    bank = rng.normal(size=(ROWS, 40, WIDTH)).astype(np.float16)
    return HealthyPatches.of(bank, basis, table)


def test_a_far_patch_is_marked_where_it_is_and_padding_is_left_out(healthy):
    rng = np.random.default_rng(1)
    patches = 0.5 * rng.normal(size=(12, ROWS, WIDTH)).astype(np.float32)
    patches[4:6, 1] += 9.0
    patches[10:] += 50.0  # beyond the end of the sound
    found = healthy.map(patches, 10 * 0.16)
    assert found.deviations.shape == (10, ROWS)
    assert np.argwhere(found.marked).tolist() == [[4, 1], [5, 1]]
    (region,) = unusual_regions(found)
    assert (region.start, region.end) == (0.64, 0.96)
    assert (region.low_hz, region.high_hz) == (1000, 2000)
    assert region.deviations == pytest.approx(found.deviations[4:6, 1].max(), abs=0.06)


def test_distances_are_those_to_the_nearest(healthy):
    rng = np.random.default_rng(2)
    some = rng.normal(size=(7, WIDTH)).astype(np.float32)
    bank = healthy.bank[0].astype(np.float32)
    brute = np.linalg.norm(some[:, None] - bank[None], axis=2).min(axis=1)
    np.testing.assert_allclose(nearest(some, bank), brute, rtol=1e-4)
    np.testing.assert_allclose(
        healthy.distances(np.repeat(some[:, None], ROWS, axis=1))[:, 0], brute, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("seconds", "patch", "count"), [(10, 0.16, 62), (1.6, 0.16, 10), (0.1, 0.16, 1)]
)
def test_only_patches_full_of_sound_count(seconds, patch, count):
    assert whole(seconds, np.float32(patch)) == whole(seconds, patch) == count


def test_regions_are_what_touches_the_strangest_first():
    deviations = np.zeros((10, 4))
    deviations[1:3, 0] = 6
    deviations[2, 1] = 7  # joins the first
    deviations[5, 3] = 30
    for place in (7, 8, 9):
        deviations[place, (place + 1) % 2 * 2] = 5.5  # three that touch nothing
    found = UnusualMap(deviations, np.array([0.0, 100, 200, 300, 400]), 0.5, limit=5, alone=True)
    first, second, third = unusual_regions(found)
    assert first == UnusualRegion(2.5, 3.0, 300, 400, 30)
    assert second == UnusualRegion(0.5, 1.5, 0, 200, 7)
    assert third.deviations == 5.5
    assert words(second) == "at 0.5-1.5 s in 0-200 Hz"
    assert not unusual_regions(UnusualMap(deviations * 0, found.hertz, 0.5))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda bank, basis, table: (bank[:2], basis, table),
        lambda bank, basis, table: (bank, basis[:, :3], table),
        lambda bank, basis, table: (bank.astype(np.float32), basis, table),
        lambda bank, basis, table: (bank, basis * np.nan, table),
        lambda bank, basis, table: (bank, basis, table[::-1].copy()),
        lambda bank, basis, table: (bank, basis, table * np.float32([1, 1, 1, 0, 1, 1])),
        lambda bank, basis, table: (bank[:, :0], basis, table),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(healthy, spoil):
    arrays = spoil(healthy.bank, healthy.basis, healthy.table)
    with pytest.raises(ValueError, match=r"."):
        HealthyPatches.of(*arrays)


def test_patches_of_another_encoder_are_refused(healthy):
    with pytest.raises(ValueError, match="patches have shape"):
        healthy.map(np.zeros((4, ROWS + 1, WIDTH), np.float32), 1.0)

"""The fuzzer's targets (`make test-fuzz`) on their seeds and seeded damage, without the fuzzer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.faults.fuzz.targets import TARGETS


def damaged(seed: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes changed, a piece cut out or repeated, or the end missing."""
    data = bytearray(seed)
    for _ in range(rng.integers(1, 4)):
        if not data:
            break
        at, size = int(rng.integers(len(data))), int(rng.integers(1, 9))
        kind = rng.integers(4)
        if kind == 0:
            data[at : at + size] = rng.integers(0, 256, size, dtype=np.uint8).tobytes()
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = data[at : at + size]
        else:
            del data[at:]
    return bytes(data)


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - {"api"}))
def test_damage_raises_what_is_promised_and_nothing_else(name, tmp_path):
    target, rng = TARGETS[name], np.random.default_rng(7)
    seeds = target.seeds(tmp_path)
    run = target.make(tmp_path)
    for seed in seeds:
        run(seed)
    for _ in range(150):
        run(damaged(seeds[rng.integers(len(seeds))], rng)[: target.most])

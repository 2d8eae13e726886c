"""Made bearings that run to failure: the monitors warn in time, and not early."""

from __future__ import annotations

import numpy as np
import pytest

from agent.drift_fit.bands import band_statistics, plan_bands
from agent.drift_fit.settings import BAND_SETTINGS, band_tolerance
from trainer.drift.replay import Replay, replay
from trainer.drift.sequence import Sequence, Step
from trainer.synth.run_to_failure import (
    AXES,
    HEALTHY,
    KINDS,
    LENGTH,
    RATE,
    fault_size,
    run_to_failure,
)

COUNT = 300


def watched(kind: str, seed: int = 1) -> Replay:
    plan = plan_bands(RATE, LENGTH, AXES)
    lives = run_to_failure({**KINDS, **HEALTHY}[kind], COUNT, seed)
    assert lives.shape == (COUNT, LENGTH, AXES)
    assert np.isfinite(lives).all()
    sequence = Sequence(
        np.stack([band_statistics(one, plan) for one in lives]),
        tuple(Step("made", float(row)) for row in range(COUNT)),
        plan.names,
        "dB",
        "band statistics",
        band_tolerance(plan),
    )
    return replay(sequence, baseline=0.1, settings=BAND_SETTINGS)


@pytest.mark.parametrize("kind", ["exponential", "running-in"])
def test_growing_fault_is_warned_of_well_before_the_end_and_not_while_young(kind: str) -> None:
    # With 2 dB of all levels free and blocks of four snapshots DtMM warned at 88 % of this life.
    done = watched(kind)
    for monitor in ("verdict", "dtmm", "median"):
        warnings = done.charts[monitor].warnings
        assert warnings, monitor
        assert 0.2 * COUNT <= warnings[0] <= 0.83 * COUNT, monitor
    record = done.monitor.baseline.record
    assert record.settling_windows == COUNT // 10
    assert record.settling_threshold is not None
    assert record.settling_threshold >= record.threshold


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_faults_grow_from_nothing_to_their_whole(kind: str) -> None:
    size = fault_size(KINDS[kind], 1000, np.random.default_rng(0))
    assert size[:200].max() == 0
    assert 0.9 < size.max() <= 1
    assert size[600:].mean() > size[:600].mean()

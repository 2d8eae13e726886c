"""The idle gate knows the machine standing still, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from agent.score.bank import prepare
from agent.score.gate import IdleGate, fit_gate
from agent.score.space import Space

DIM = 16


def cloud(centre, count, spread, seed):
    rng = np.random.default_rng(seed)
    return (np.asarray(centre) + spread * rng.standard_normal((count, DIM))).astype(np.float32)


def names(kind, count, each=4):
    return [f"{kind}{i // each}" for i in range(count)]


RUNNING, IDLE = np.eye(DIM)[0] * 3, np.eye(DIM)[1] * 3


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_idle_windows_are_found_and_faults_are_not(metric):
    healthy, still = cloud(RUNNING, 400, 0.3, 0), cloud(IDLE, 80, 0.3, 1)
    gate, note = fit_gate(still, names("i", 80), healthy, names("h", 400), Space(metric))
    assert gate is not None
    assert "0.00% of the healthy windows" in note
    found = IdleGate(still, prepare(healthy, metric), Space(metric), gate)
    assert found.idle(cloud(IDLE, 200, 0.3, 2)).mean() > 0.9
    assert found.idle(cloud(RUNNING, 2000, 0.3, 3)).mean() <= 0.002
    # A fault is near neither; one between the two is not near enough to the idle recordings.
    assert not found.idle(cloud(np.eye(DIM)[2] * 3, 200, 0.3, 4)).any()
    assert not found.idle(cloud((RUNNING + IDLE) / 2, 200, 0.1, 5)).any()


def test_a_gate_that_would_hide_the_running_machine_is_refused():
    healthy, still = cloud(RUNNING, 400, 0.3, 0), cloud(RUNNING, 200, 0.3, 1)
    gate, note = fit_gate(still, names("i", 200), healthy, names("h", 400), Space("cosine"))
    assert gate is None
    assert "too alike" in note


def test_part_of_the_healthy_recordings_being_idle_is_refused():
    healthy = np.concatenate([cloud(RUNNING, 360, 0.3, 0), cloud(IDLE, 40, 0.3, 6)])
    gate, note = fit_gate(
        cloud(IDLE, 80, 0.3, 1), names("i", 80), healthy, names("h", 400, each=40), Space("cosine")
    )
    assert gate is None
    assert "idle" in note


def test_one_recording_fits_no_gate():
    gate, note = fit_gate(
        cloud(IDLE, 8, 0.3, 1),
        ["one"] * 8,
        cloud(RUNNING, 40, 0.3, 0),
        names("h", 40),
        Space("cosine"),
    )
    assert gate is None
    assert "at least two" in note

"""A hop that follows the machine keeps the promise of false alarms that was found for 1 s."""

from __future__ import annotations

import numpy as np

from agent.config.decide import DecideConfig
from agent.core.records import Level, Score, Window
from agent.core.scale import Scale
from agent.decide.alarm import AlarmDecider
from agent.pace.pace import HopPace
from agent.window.rolling import Due

SECONDS, HOURS, RATE = 10, 5, 8
NOTHING = np.zeros(SECONDS * RATE, np.float32)


def healthy_scores(share, seconds, rng):
    """Scores at a hop of 1 s of the law by which promises are kept (`agent.calibrate.rate`)."""
    size = 3600 * HOURS
    slow, fresh = np.empty(size), rng.standard_normal(size)
    slow[0], keep = rng.standard_normal(), np.exp(-1.0 / seconds)
    for at in range(1, size):
        slow[at] = keep * slow[at - 1] + np.sqrt(1 - keep**2) * fresh[at]
    quick = np.convolve(rng.standard_normal(size + SECONDS - 1), np.ones(SECONDS), "valid")
    return np.sqrt(share) * slow + np.sqrt((1 - share) / SECONDS) * quick


def alarms(scores, threshold, due, told=lambda _decision: None):
    """How often the alarm rises, and how many windows were judged."""
    scale = Scale(median=0.0, threshold=threshold, usual=1.65, severe=2 * threshold)
    decider = AlarmDecider(DecideConfig(), threshold, scale=scale)
    risen, judged, standing = 0, 0, False
    for at, value in enumerate(scores):
        window = Window(NOTHING, RATE, at, float(at), 1e9 + at, step=RATE, position=at * RATE)
        if due((at + SECONDS) * RATE) is Due.NO:
            continue
        decision = decider.decide(Score(window, float(value)))
        told(decision)
        risen += decision.level is Level.ALARM and not standing
        standing, judged = decision.level is Level.ALARM, judged + 1
    return risen, judged


def test_a_healthy_machine_alarms_no_oftener_with_a_hop_that_follows_it():
    # So low a threshold, and so slow changes, that it comes to several alarms. Nothing is calm but
    # what lies below the threshold, the least favourable there is.
    threshold = 1.2
    scores = healthy_scores(0.9, 60.0, np.random.default_rng(7))
    pace = HopPace(RATE, SECONDS * RATE, RATE, 5)
    each, windows = alarms(scores, threshold, lambda _end: Due.YES)
    auto, fewer = alarms(scores, threshold, pace.due, pace.take)
    assert each > 5
    # Of many more hours 1.00 to 1.13 times as often (`benchmarks/pace_promise.py`).
    assert auto <= each + max(2, 0.15 * each)
    assert fewer < 0.7 * windows

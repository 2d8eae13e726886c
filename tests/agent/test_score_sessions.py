"""Sessions: which recordings belong together, and thresholds that hold on a day nobody heard."""

from __future__ import annotations

import numpy as np
import pytest

from agent.bundle.manifest import Row
from agent.calibrate.fit import fit_scorer
from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_density import MahalanobisConfig
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdRule
from agent.score.build import build_scorer
from agent.score.scorer import HealthySet
from agent.score.sessions import left_out_with, session_names, session_note, sessions_of

RULE = ThresholdRule(false_alarm_rate=0.05)
DIM = 8


def row(name: str, session: str = "", **other) -> Row:
    return Row(source=name, start=0.0, group=name, session=session, **other)


def test_a_session_ends_where_nothing_was_recorded_for_hours():
    names = ["20260302_230000.wav", "20260303_010000.wav", "20260303_090000.wav", "first.wav"]
    assert session_names(names) == [
        "2026-03-02T23:00", "2026-03-02T23:00", "2026-03-03T09:00", "",
    ]  # fmt: skip


def test_what_goes_on_for_days_is_divided_at_midnight():
    names = [f"2026-03-{day:02}/{hour:02}/x_202603{day:02}_{hour:02}3000.wav"
             for day in (1, 2, 3) for hour in range(0, 24, 3)]  # fmt: skip
    found = session_names(names)
    assert sorted(set(found)) == ["2026-03-01T00:30", "2026-03-02T00:30", "2026-03-03T00:30"]
    assert [name[:10] for name in found] == [name[:10] for name in names]


def test_a_folder_a_day_is_a_session_each():
    names = ["2026-03-01/a.wav", "2026-03-01/b.wav", "2026-03-02/a.wav"]
    assert session_names(names) == ["2026-03-01T00:00", "2026-03-01T00:00", "2026-03-02T00:00"]


def test_sessions_are_left_out_whole_where_others_hold_the_same_conditions():
    rows = [row(f"a{i}", "mon") for i in range(6)] + [row(f"b{i}", "tue") for i in range(6)]
    assert set(left_out_with(rows)) == {"session mon", "session tue"}
    # An operating condition that one session alone holds would be unknown without it.
    loads = [one.model_copy(update={"attributes": {"load": one.session}}) for one in rows]
    assert sessions_of(loads) == ()
    assert set(left_out_with(loads)) == {f"recording {one.group}" for one in rows}
    assert "each condition on several days" in session_note(loads)
    # Too little remains without the long session; the short one can go.
    few = [*rows[:6], row("b0", "tue")]
    assert sessions_of(few) == ("tue",)
    # Of recordings nobody knows the time of, each goes alone.
    unknown = [row(f"a{i}") for i in range(6)]
    assert sessions_of(unknown) == ()
    assert session_note(unknown) == ""


def test_a_single_session_is_told_of():
    note = session_note([row(f"a{i}", "2026-03-02T23:42") for i in range(6)])
    assert note.startswith(
        "ONE SESSION: all 6 recordings are of one session (from 2026-03-02 23:42 on)"
    )
    assert "record the machine on another day" in note


def days(count: int, *, seed: int) -> HealthySet:
    """Recordings that are alike within a day, and differ more from day to day."""
    rng = np.random.default_rng(seed)
    vectors, rows = [], []
    for day in range(count):
        middle = rng.normal(0, 3.0, DIM)
        vectors.append(middle + rng.normal(0, 0.3, (20, DIM)))
        rows += [row(f"{day}-{i}", f"day {day}") for i in range(20)]
    return HealthySet(np.concatenate(vectors).astype(np.float32), rows)


NEAR = KnnConfig(metric="euclidean", normalization="varmin")
SCORERS = {
    "knn": NEAR,
    "mahalanobis": MahalanobisConfig(),
    "fusion": FusionConfig(
        parts=(
            Part(columns=(0, 5), standardize="whiten", scorer=NEAR),
            Part(columns=(5, 8), scorer=KnnConfig(metric="euclidean", normalization="none")),
        )
    ),
}


@pytest.mark.parametrize("name", list(SCORERS))
def test_the_promise_holds_on_a_day_that_nobody_heard(name):
    """Leaving out recordings alone called nearly all of another day anomalous."""
    rates, before = [], []
    for seed in range(4):
        known, more = days(12, seed=seed), days(24, seed=seed)
        later = more.vectors[len(known) :]
        for healthy, into in ((known, rates), (known.without_sessions(), before)):
            fitted = fit_scorer(healthy, SCORERS[name], RULE, window_seconds=10.0)
            scorer = build_scorer(fitted.config, healthy, fitted.state)
            scorer.start()
            into.append(float(np.mean(scorer.score(later)[0] > fitted.threshold.clip_value)))
    assert np.mean(before) > 0.2
    # Twelve days tell a rate of one day in twenty no better than this.
    assert np.mean(rates) < 0.2
    assert np.mean(rates) < 0.5 * np.mean(before)


def test_the_threshold_says_what_was_left_out():
    known = days(6, seed=1)
    fitted = fit_scorer(known, NEAR, RULE, window_seconds=10.0)
    assert fitted.threshold.method.startswith("leave-one-session-out (6 sessions) healthy scores")
    one = HealthySet(known.vectors[:20], known.rows[:20])
    fitted = fit_scorer(one, NEAR, RULE, window_seconds=10.0)
    assert fitted.threshold.method.startswith("leave-one-recording-out healthy scores")
    assert any("promised for other days" in note for note in fitted.notes)

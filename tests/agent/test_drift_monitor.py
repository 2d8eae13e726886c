"""The streaming monitor: warnings, memory, restarts, and what it may learn."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.drift import block_distance

from agent.drift.baseline import (
    Baseline,
    BaselineRecord,
    DriftError,
    MixtureRecord,
    ReducerRecord,
    load_baseline,
    save_baseline,
)
from agent.drift.chart import ChartRecord
from agent.drift.mixture import Mixture
from agent.drift.monitor import DriftMonitor, Reading
from agent.drift.state import MAX_REFERENCES, MonitorState, load_state, save_state

WIDE = 6


@pytest.fixture
def baseline() -> Baseline:
    """Two states of a machine along the first axis, 6 features, 2 axes and the residual."""
    mixture = Mixture(
        np.log([0.6, 0.4]),
        np.array([[-3.0, 0.0, 1.0], [3.0, 0.0, 1.0]]),
        np.log(np.array([[1.0, 1.0, 0.35], [1.0, 1.0, 0.35]])),
        10.0,
    )
    axes = np.eye(WIDE)[:2]
    return Baseline.of(
        BaselineRecord(
            features=[f"feature {i}" for i in range(WIDE)],
            unit="dB",
            source="test",
            reducer=ReducerRecord(
                centre=[0.0] * WIDE, scale=[1.0] * WIDE, axes=axes.tolist(), residual=True
            ),
            mixture=MixtureRecord.of(mixture),
            noise_mean=3.0,
            noise_log_scale=0.5,
            noise_logit=1.0,
            threshold=4.0,
            sigmas=4.0,
            normal_mean=1.0,
            normal_sd=0.75,
            normal_mixtures=100,
            block=12,
            hop=3,
            persistence=(4, 5),
            run_in=0,
            model_windows=100,
            threshold_windows=50,
            wander_per_block=0.0,
            horizon_blocks=0.0,
        )
    )


def healthy(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, WIDE))
    x[:, 0] += np.where(rng.random(count) < 0.6, -3.0, 3.0)
    return x


def feed(monitor: DriftMonitor, rows: np.ndarray) -> list[Reading]:
    return [reading for row in rows if (reading := monitor.observe(row)) is not None]


def numbers(readings: list[Reading]) -> list[tuple]:
    return [(r.window, r.distance, r.exceeded, r.active, r.raised, r.reference) for r in readings]


@pytest.mark.parametrize("seed", range(4))
def test_stationary_noise_is_not_warned_of(baseline: Baseline, seed: int) -> None:
    readings = feed(DriftMonitor(baseline), healthy(1500, seed))
    assert len(readings) == (1500 - 12) // 3 + 1
    assert not any(reading.raised for reading in readings)


@pytest.mark.parametrize("axis", [1, 4])
def test_step_is_warned_of_once_whether_on_an_axis_or_off(baseline: Baseline, axis: int) -> None:
    rows = healthy(300, 1)
    rows[200:, axis] += 5.0
    readings = feed(DriftMonitor(baseline), rows)
    raised = [reading for reading in readings if reading.raised]
    assert len(raised) == 1
    assert 200 < raised[0].window < 200 + 2 * 12 + 3
    assert raised[0].movement is not None
    if axis == 1:
        best = raised[0].movement.features[0]
        assert best.name == "feature 1"
        assert best.change == pytest.approx(5, abs=1.0)
    else:
        assert raised[0].movement.residual > 1.5


def test_one_state_of_the_machine_alone_is_no_drift(baseline: Baseline) -> None:
    rows = np.random.default_rng(5).standard_normal((300, WIDE))
    rows[:, 0] += 3.0
    assert not any(reading.raised for reading in feed(DriftMonitor(baseline), rows))


def test_moved_component_is_named(baseline: Baseline) -> None:
    rows = healthy(200, 6)
    upper = rows[:, 0] > 0
    rows[upper, 1] += 6.0
    raised = [reading for reading in feed(DriftMonitor(baseline), rows) if reading.raised]
    first = raised[0].movement.components[0]
    assert first.component == 1
    assert first.shift == pytest.approx(6, abs=1.5)
    assert first.share > 0.8
    assert "component 1" in raised[0].movement.sentence()


def test_passing_noise_raises_nothing(baseline: Baseline) -> None:
    rows = healthy(300, 2)
    rows[150] += 40.0
    assert not any(reading.raised for reading in feed(DriftMonitor(baseline), rows))


def test_warning_clears_when_the_change_goes(baseline: Baseline) -> None:
    rows = healthy(400, 3)
    rows[100:200, 1] += 6.0
    readings = feed(DriftMonitor(baseline), rows)
    assert [reading.cleared for reading in readings].count(True) == 1
    assert not readings[-1].active


def test_restart_anywhere_changes_nothing(baseline: Baseline, tmp_path: Path) -> None:
    rows = healthy(260, 4)
    rows[120:, 1] += 6.0
    rows[33, 2] = np.nan
    save_baseline(baseline, tmp_path / "baseline.json")
    whole = DriftMonitor(baseline)
    expected = []
    pieces = []
    broken = DriftMonitor(baseline)
    for index, row in enumerate(rows):
        if index == 170:
            whole.accept("Kim", "new gearbox")
            broken.accept("Kim", "new gearbox")
        expected += [reading] if (reading := whole.observe(row)) else []
        pieces += [reading] if (reading := broken.observe(row)) else []
        if index % 17 == 0:
            save_state(broken.state(), tmp_path / "state.json")
            broken = DriftMonitor(
                load_baseline(tmp_path / "baseline.json"), load_state(tmp_path / "state.json")
            )
    assert numbers(pieces) == numbers(expected)
    assert broken.state() == whole.state()
    assert any(reading.raised for reading in expected)


def test_memory_is_constant(baseline: Baseline) -> None:
    monitor = DriftMonitor(baseline)
    rows = healthy(2000, 7)
    feed(monitor, rows[:100])
    early = monitor.state()
    feed(monitor, rows[100:])
    late = monitor.state()
    assert len(late.buffer) == len(early.buffer) == baseline.record.block
    assert len(late.flags) == len(early.flags)
    assert abs(len(late.model_dump_json()) - len(early.model_dump_json())) < 200


def test_never_learns_without_confirmation(baseline: Baseline) -> None:
    """However slowly the fault grows, however long it lasts."""
    monitor = DriftMonitor(baseline)
    before = monitor.state().references
    rows = healthy(3000, 8)
    rows[:, 1] += np.linspace(0, 8, 3000)
    readings = feed(monitor, rows)
    assert monitor.state().references == before
    assert any(reading.raised for reading in readings)
    assert readings[-1].active
    with_jump = healthy(200, 9)
    with_jump[:, 1] += 8
    fresh = feed(DriftMonitor(baseline), with_jump)[-1].distance
    assert readings[-1].distance == pytest.approx(fresh, rel=0.6)


def test_accepting_needs_a_warning_and_a_name(baseline: Baseline) -> None:
    monitor = DriftMonitor(baseline)
    feed(monitor, healthy(100, 10))
    with pytest.raises(DriftError, match="no standing warning"):
        monitor.accept("Kim")
    rows = healthy(100, 11)
    rows[:, 1] += 6
    feed(monitor, rows)
    with pytest.raises(DriftError, match="who accepts"):
        monitor.accept("  ")


def test_accepted_change_is_followed_and_a_fault_on_top_is_warned_of(baseline: Baseline) -> None:
    monitor = DriftMonitor(baseline)
    rows = healthy(1200, 12)
    rows[100:, 1] += 6.0
    rows[900:, 4] += 7.0
    readings = feed(monitor, rows[:150])
    assert readings[-1].active
    monitor.accept("Kim", "load raised")
    assert not monitor.state().active
    settled = feed(monitor, rows[150:900])
    assert not any(reading.raised for reading in settled)
    reference = monitor.state().references[1]
    assert (reference.operator, reference.note) == ("Kim", "load raised")
    assert reference.mixture != reference.origin  # it was refined by later blocks
    assert monitor.state().following is None  # and no longer is
    # The old state is still known: going back to it is no drift.
    assert not any(reading.raised for reading in feed(monitor, healthy(200, 13)))
    assert any(reading.raised for reading in feed(monitor, rows[900:]))


def test_adaptation_stops_where_the_change_goes_on(baseline: Baseline) -> None:
    monitor = DriftMonitor(baseline)
    rows = healthy(600, 14)
    rows[50:, 1] += 6.0
    rows[150:, 1] += np.linspace(0, 12, 450)  # a fault grows under the accepted change
    feed(monitor, rows[:110])
    monitor.accept("Kim")
    readings = feed(monitor, rows[110:])
    assert readings[-1].active
    moved = np.abs(
        np.asarray(monitor.state().references[1].mixture.means)
        - np.asarray(monitor.state().references[1].origin.means)
    ).max()
    assert moved < 3.5
    assert monitor.state().following is None


def test_number_of_normal_states_is_bounded(baseline: Baseline) -> None:
    monitor = DriftMonitor(baseline)
    for turn in range(MAX_REFERENCES):
        rows = healthy(60, 20 + turn)
        rows[:, 1] += 12.0 * (turn + 1)
        assert feed(monitor, rows)[-1].active
        if turn < MAX_REFERENCES - 1:
            monitor.accept("Kim")
    with pytest.raises(DriftError, match="Fit a new baseline"):
        monitor.accept("Kim")


def test_unjudged_windows_are_counted_and_skipped(baseline: Baseline) -> None:
    monitor = DriftMonitor(baseline)
    rows = healthy(60, 15)
    gaps = np.repeat(rows, 2, axis=0)
    gaps[1::2] = np.nan
    with_gaps = feed(monitor, gaps)
    assert monitor.state().unjudged == 60
    plain = feed(DriftMonitor(baseline), rows)
    assert [r.distance for r in with_gaps] == [r.distance for r in plain]


def test_block_distance_ranks_a_strange_recording_above_healthy_ones(baseline: Baseline) -> None:
    usual = [block_distance(baseline, healthy(10, 30 + seed)) for seed in range(10)]
    strange = healthy(10, 50)
    strange[:, 3] += 4
    assert block_distance(baseline, strange) > max(usual)


def test_wrong_input_is_refused_with_a_remedy(baseline: Baseline, tmp_path: Path) -> None:
    with pytest.raises(DriftError, match="baseline has 6"):
        DriftMonitor(baseline).observe(np.zeros(5))
    state = DriftMonitor(baseline).state()
    other = state.model_copy(update={"baseline": "0" * 64})
    with pytest.raises(DriftError, match="another baseline"):
        DriftMonitor(baseline, other)
    path = tmp_path / "state.json"
    path.write_text(state.model_dump_json()[:-20])
    with pytest.raises(DriftError, match=r"state\.json"):
        load_state(path)
    save_baseline(baseline, tmp_path / "baseline.json")
    text = (tmp_path / "baseline.json").read_text().replace('"hop"', '"hopp"')
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(DriftError, match="hopp"):
        load_baseline(tmp_path / "baseline.json")
    assert isinstance(state, MonitorState)


def test_agent_side_needs_only_numpy_and_pydantic() -> None:
    code = (
        "import sys, agent.drift.monitor;"
        "bad = {'torch', 'sklearn', 'scipy', 'matplotlib', 'trainer', 'export', 'onnx'};"
        "sys.exit(str(bad & set(sys.modules)) if bad & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def with_chart(baseline: Baseline, limit: float = 1.55) -> Baseline:
    chart = ChartRecord(windows=12, limit=limit)
    return Baseline.of(baseline.record.model_copy(update={"chart": chart}))


def a_little_everywhere(count: int, seed: int, shift: float = 1.0) -> np.ndarray:
    """Windows of one healthy state, all but two features moved by less than the mixture minds."""
    rows = np.random.default_rng(seed).standard_normal((count, WIDE))
    rows[:, 0] += 3.0
    rows[:, 2:] += shift
    return rows


def test_rolling_median_warns_of_a_little_everywhere(baseline: Baseline) -> None:
    record = baseline.record.model_copy(update={"threshold": 60.0})
    plain = Baseline.of(record)
    rows = np.concatenate([healthy(200, 7), a_little_everywhere(100, 8, 2.5)])
    assert not any(reading.raised for reading in feed(DriftMonitor(plain), rows))
    assert not any(reading.raised for reading in feed(DriftMonitor(with_chart(plain)), rows[:200]))
    readings = feed(DriftMonitor(with_chart(plain)), rows)
    first = next(reading for reading in readings if reading.raised)
    assert first.window >= 200
    assert first.chart is not None
    assert first.chart > 1
    assert first.distance < first.threshold


def test_restart_neither_ends_nor_repeats_a_warning_of_the_median(baseline: Baseline) -> None:
    heard = with_chart(Baseline.of(baseline.record.model_copy(update={"threshold": 60.0})))
    monitor = DriftMonitor(heard)
    feed(monitor, np.concatenate([healthy(100, 7), a_little_everywhere(100, 8, 2.5)]))
    assert monitor.state().active
    again = DriftMonitor(heard, monitor.state())
    readings = feed(again, a_little_everywhere(100, 10, 2.5))
    assert readings[0].chart is None
    assert not any(reading.cleared or reading.raised for reading in readings)
    assert any(reading.cleared for reading in feed(again, healthy(200, 11)))


def test_accepted_change_is_normal_to_the_median_too_and_after_a_restart(
    baseline: Baseline,
) -> None:
    heard = with_chart(Baseline.of(baseline.record.model_copy(update={"threshold": 60.0})))
    monitor = DriftMonitor(heard)
    feed(monitor, np.concatenate([healthy(100, 7), a_little_everywhere(100, 8, 2.5)]))
    monitor.accept("Kim")
    again = DriftMonitor(heard, MonitorState.model_validate_json(monitor.state().model_dump_json()))
    later = feed(again, a_little_everywhere(400, 10, 2.5))
    assert not any(reading.raised for reading in later)
    assert any(reading.raised for reading in feed(again, a_little_everywhere(100, 12, 6.0)))


def test_running_in_may_go_on_for_as_long_as_the_baseline_says(baseline: Baseline) -> None:
    young = Baseline.of(
        baseline.record.model_copy(update={"settling_threshold": 400.0, "settling_windows": 60})
    )
    rows = healthy(150, 3)
    rows[:, 1] += 5.0
    first = next(reading for reading in feed(DriftMonitor(young), rows) if reading.raised)
    assert 60 < first.window < 60 + 2 * 12 + 3
    told = [reading.threshold for reading in feed(DriftMonitor(young), rows)]
    assert told[0] == 400.0
    assert told[-1] == 4.0


def test_while_running_in_one_witness_is_not_enough(baseline: Baseline) -> None:
    changes = {"settling_threshold": 60.0, "settling_windows": 120, "threshold": 60.0}
    young = with_chart(Baseline.of(baseline.record.model_copy(update=changes)))
    rows = a_little_everywhere(300, 8, 2.5)  # which the median alone minds
    first = next(reading for reading in feed(DriftMonitor(young), rows) if reading.raised)
    assert first.window > 120
    both = Baseline.of(young.record.model_copy(update={"settling_threshold": 4.0}))
    first = next(reading for reading in feed(DriftMonitor(both), rows) if reading.raised)
    assert first.window < 60


def test_a_whole_state_goes_on_exactly(baseline: Baseline) -> None:
    heard = with_chart(baseline)
    rows = np.concatenate([healthy(100, 7), a_little_everywhere(60, 8, 2.5)])
    monitor, at_once = DriftMonitor(heard), feed(DriftMonitor(heard), rows)
    before = feed(monitor, rows[:97])
    state = MonitorState.model_validate_json(monitor.state(whole=True).model_dump_json())
    after = feed(DriftMonitor(heard, state), rows[97:])
    told = [(one.distance, one.chart, one.active) for one in (*before, *after)]
    assert told == [(one.distance, one.chart, one.active) for one in at_once]


def test_baseline_of_an_earlier_version_keeps_its_digest(baseline: Baseline) -> None:
    later = ("settling_threshold", "settling_windows", "chart")
    old = baseline.record.model_dump_json(exclude=set(later))
    assert baseline.digest == hashlib.sha256(old.encode()).hexdigest()

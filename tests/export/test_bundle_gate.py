"""Idle and noise recordings make a gate beside the bank, and a promise in days its threshold."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import soundfile
from rich.console import Console
from support.encoders import RATE, SmallEncoder

from agent.bundle.manifest import BANK, GATE, GATE_ROWS, ROWS
from agent.config.agent import AgentConfig
from agent.config.decide import AlertConfig, DecideConfig, FalseAlarms
from agent.config.recipe import ThresholdConfig, WindowConfig
from agent.core.errors import BundleError, ConfigError
from agent.decide.thresholds import find_thresholds
from agent.deploy.load import open_bundle
from agent.doctor.examine import check_bundle
from agent.doctor.finding import Grade
from agent.recordings.load import load_machines
from export import bundle as bundling
from export.bundle import export_bundle
from trainer.encoder_config import EncoderConfig
from trainer.preset import Preset, QuantizationConfig
from trainer.run import RecordingRecord, RunRecord


def hum(seed, seconds=3):
    rng = np.random.default_rng(seed)
    time = np.arange(seconds * RATE) / RATE
    tone = 0.1 * np.sin(2 * np.pi * rng.uniform(95, 105) * time)
    return tone + 0.01 * rng.standard_normal(len(time))


def hiss(seed, seconds=3):
    return 0.02 * np.random.default_rng(seed).standard_normal(seconds * RATE)


@pytest.fixture
def export(tmp_path, monkeypatch):
    """Export recordings by role with the small encoder."""

    def make(recordings, stamp="", **threshold):
        root = tmp_path / "pump"
        for role, sounds in recordings.items():
            (root / role).mkdir(parents=True)
            for n, sound in enumerate(sounds):
                soundfile.write(root / role / f"{stamp}{n:02}.wav", sound, RATE)
        (machine,) = load_machines(root)
        record = RunRecord(
            auscult_version="0",
            created="2025-01-01T00:00:00+00:00",
            machine="pump",
            root=str(root),
            preset=Preset(
                name="small",
                summary="for tests",
                encoder=EncoderConfig(kind="dual_path"),
                window=WindowConfig(seconds=1.0, train_hop_seconds=0.5),
                threshold=ThresholdConfig(**threshold),
                quantization=QuantizationConfig(mode="none"),
            ),
            seed=0,
            recordings=tuple(
                RecordingRecord(path=r.path.relative_to(root).as_posix(), role=r.role)
                for r in machine.recordings
            ),
        )
        monkeypatch.setattr(bundling, "load_run", lambda folder: (record, SmallEncoder()))
        out = tmp_path / "bundle"
        export_bundle("run", out, test=False, console=Console(file=io.StringIO()))
        return out

    return make


def windows(sound):
    return np.stack(
        [sound[start : start + RATE] for start in range(0, len(sound) - RATE + 1, RATE)]
    )


def test_the_standing_machine_is_told_from_the_running_one(export):
    out = export(
        {
            "normal": [hum(n) for n in range(12)],
            "idle": [hiss(100 + n) for n in range(6)],
            "noise": [hiss(200 + n) for n in range(6)],
        }
    )
    rows = json.loads((out / ROWS).read_bytes())
    assert {row["source"].split("/")[0] for row in rows} == {"normal"}
    still = json.loads((out / GATE_ROWS).read_bytes())
    assert {row["source"].split("/")[0] for row in still} == {"idle", "noise"}
    assert len(np.load(out / GATE)) == len(still)
    assert len(np.load(out / BANK)) == len(rows)
    bundle = open_bundle(out)
    try:
        assert any("idle gate" in note for note in bundle.manifest.notes)
        assert bundle.manifest.gate.healthy_as_idle <= 0.01

        def idle(sound):
            return bundle.gate.idle(bundle.encoder.encode(windows(sound).astype(np.float32)))

        assert idle(hiss(999, 20)).mean() > 0.8
        assert idle(hum(998, 20)).mean() == 0.0
    finally:
        bundle.close()
    (out / GATE).write_bytes((out / GATE).read_bytes()[:-1])
    with pytest.raises(BundleError, match=GATE):
        open_bundle(out)


def test_noise_like_the_machine_makes_no_gate_and_says_so(export):
    out = export({"normal": [hum(n) for n in range(8)], "noise": [hum(50 + n) for n in range(8)]})
    bundle = open_bundle(out)
    bundle.close()
    assert bundle.gate is None
    assert not (out / GATE).exists()
    assert any("too alike" in note for note in bundle.manifest.notes)


def test_a_promise_in_days_sets_the_bundles_threshold_and_the_devices(export):
    promise = FalseAlarms(at_most=1, per_days=30)
    out = export({"normal": [hum(n) for n in range(16)]}, false_alarms=promise)
    bundle = open_bundle(out)
    bundle.close()
    manifest, healthy = bundle.manifest, bundle.healthy
    assert manifest.threshold.false_alarm_rate < 0.5 * ThresholdConfig().false_alarm_rate
    assert "90 % confidence" in manifest.threshold.method
    assert "extrapolated" in manifest.threshold.caveat
    # The device finds the same from the same promise, and another from another.
    config = DecideConfig(false_alarms=promise)
    found = find_thresholds(config, manifest, healthy, manifest.hop_seconds)
    assert found.alarm == pytest.approx(manifest.threshold.value)
    lax = DecideConfig(false_alarms=FalseAlarms(at_most=100, per_days=1))
    assert find_thresholds(lax, manifest, healthy, 1.0).alarm < found.alarm
    # By default an early warning comes at a lower threshold.
    own = find_thresholds(DecideConfig(), manifest, healthy, 1.0)
    assert own.lasting is not None
    assert any("is an alarm all the same" in words for words in own.promise)
    assert own.alarm == manifest.threshold.value
    assert own.alert < own.alarm
    # What stays for minutes is an alert at one lower still, where that is lower.
    assert own.steady is None or own.steady.threshold < own.alert
    rare = FalseAlarms(at_most=0.05, per_days=30)
    late = AlertConfig(false_alarms=rare)
    found = find_thresholds(DecideConfig(alert=late), manifest, healthy, 1.0)
    assert found.steady is not None
    assert found.steady.threshold < found.alert
    assert found.each == (found.alarm, found.alert, found.steady.threshold)
    assert any(words.endswith("for 240 of 300 s is an alert") for words in found.promise)
    assert found.steady.threshold > np.quantile(healthy.scores, 0.9)
    for changes in ({"steady_seconds": None}, {"raise_windows": 20}):
        other = AlertConfig(false_alarms=rare, **changes)
        changed = find_thresholds(DecideConfig(alert=other), manifest, healthy, 1.0)
        assert changed.steady is None
        assert changed.alert is not None
    by_hand = DecideConfig(threshold=9.0, alert=late)
    assert find_thresholds(by_hand, manifest, healthy, 1.0).steady is None
    assert find_thresholds(DecideConfig(alert=None), manifest, healthy, 1.0).alert is None
    with pytest.raises(ConfigError, match="healthy scores"):
        find_thresholds(config, manifest, None, 1.0)
    without = find_thresholds(DecideConfig(), manifest, None, 1.0)
    assert without.alert is None
    assert "no alerts" in without.notes[0]


def test_recordings_of_one_session_promise_nothing_of_other_days(export, tmp_path):
    promise = FalseAlarms(at_most=1, per_days=30)
    normal = {"normal": [hum(n) for n in range(16)]}
    out = export(normal, stamp="20260302_2342", false_alarms=promise)
    bundle = open_bundle(out)
    bundle.close()
    assert any(note.startswith("ONE SESSION: all 16") for note in bundle.manifest.notes)
    found = find_thresholds(DecideConfig(), bundle.manifest, bundle.healthy, 1.0)
    assert "nothing is promised for other days" in found.one_day
    assert found.promise[0] == found.one_day
    # Found at the place itself, it is of other days.
    by_hand = DecideConfig(threshold=found.alarm)
    assert not find_thresholds(by_hand, bundle.manifest, bundle.healthy, 1.0).one_day

    def told(**machine):
        machine = {"name": "pump", "bundle": str(out), **machine}
        config = AgentConfig.model_validate(
            {"state_dir": tmp_path / "state", "machines": [machine]}, context={"base": tmp_path}
        )
        return check_bundle(config, config.machines[0])[0]

    finding = told()
    assert finding.grade is Grade.WARN
    assert "all 16 recordings are of one session" in finding.text
    assert "another day" in finding.remedy
    assert "another day" not in told(commission={}).remedy

"""Healthy recordings leave a drift baseline in the bundle, or a note that says why not."""

from __future__ import annotations

import io

import numpy as np
import soundfile
from rich.console import Console
from support.encoders import RATE, SmallEncoder

from agent.bundle.manifest import DRIFT, HEALTHY_SPECTRUM, Row
from agent.config.recipe import DriftConfig, WindowConfig
from agent.deploy.load import open_bundle
from agent.drift.monitor import DriftMonitor
from agent.learn.drift import fit_drift, spaced
from agent.machine.account import explain_window
from agent.recordings.load import load_machines
from export import bundle as bundling
from export.bundle import export_bundle
from trainer.encoder_config import EncoderConfig
from trainer.preset import Preset, QuantizationConfig
from trainer.run import RecordingRecord, RunRecord


def rows(spec):
    """`(source, starts)` pairs as rows."""
    return tuple(
        Row(source=source, start=start, group=source) for source, starts in spec for start in starts
    )


def fitted(count, *, vectors=None, **config):
    from support.bundles import info

    if vectors is None:
        vectors = np.random.default_rng(0).standard_normal((count, 16)).astype(np.float32)
    names = [f"{n}.wav" for n in range(count)]
    return fit_drift(
        vectors,
        rows((name, [0.0]) for name in names),
        names,
        info(),
        DriftConfig(**config),
        machine="pump",
        seed=0,
    )


def test_windows_are_taken_a_step_apart_in_the_order_people_number_them():
    given = rows([("10.wav", [0.0, 5.0, 10.0, 12.5]), ("2.wav", [0.0, 7.5, 9.99]), ("c.wav", [0])])
    chosen = spaced(given, {"10.wav", "2.wav"}, 10.0)
    assert [(given[row].source, given[row].start) for row in chosen] == [
        ("2.wav", 0.0),
        ("10.wav", 0.0),
        ("10.wav", 10.0),
    ]


def test_too_few_windows_leave_a_note_instead_of_a_baseline():
    few = fitted(31)
    assert few.baseline is None
    assert few.info is None
    assert "31 healthy windows" in few.note
    assert "32 are needed" in few.note
    enough = fitted(32)
    assert enough.note == ""
    assert enough.info.windows == 32
    assert "show little" in enough.info.caveat


def test_a_preset_may_do_without():
    assert fitted(100, enabled=False).note == ""
    assert fitted(100, enabled=False).baseline is None


def test_the_fitted_baseline_takes_health_and_warns_of_change():
    rng = np.random.default_rng(1)
    found = fitted(100)
    assert found.info.caveat == ""
    monitor = DriftMonitor(found.baseline)
    for vector in rng.standard_normal((200, 16)):
        monitor.observe(vector)
    assert monitor.state().raised == 0
    for vector in rng.standard_normal((60, 16)) + 3.0:
        monitor.observe(vector)
    assert monitor.state().active


def test_a_machine_that_stays_in_one_of_many_known_states_has_not_drifted():
    """Recordings catch each state for a moment; watched, the machine stays in one for long."""
    rng = np.random.default_rng(2)
    states = 2.0 * rng.standard_normal((12, 16))

    def windows(of):
        return (states[of] + 0.4 * rng.standard_normal((len(of), 16))).astype(np.float32)

    monitor = DriftMonitor(fitted(40, vectors=windows(rng.integers(12, size=40))).baseline)
    for vector in windows(np.repeat(np.arange(12), 30)):
        monitor.observe(vector)
    assert monitor.state().raised == 0
    for vector in windows(np.zeros(60, int)) + 4 * rng.standard_normal(16):
        monitor.observe(vector)
    assert monitor.state().active


def test_a_constant_encoder_is_no_fault_of_export():
    found = fitted(64, vectors=np.ones((64, 16), np.float32))
    assert found.baseline is None
    assert "do not differ" in found.note


def test_an_exported_bundle_holds_what_its_own_encoder_makes_of_health(tmp_path, monkeypatch):
    """Through `export_bundle`: sealed, opened by the agent, used on new sound of the machine."""

    def hum(seed, seconds=4, hertz=100.0):
        rng = np.random.default_rng(seed)
        time = np.arange(seconds * RATE) / RATE
        tone = 0.1 * np.sin(2 * np.pi * rng.uniform(0.95, 1.05) * hertz * time)
        return (tone + 0.01 * rng.standard_normal(len(time))).astype(np.float32)

    root = tmp_path / "pump"
    for role, first in (("normal", 0), ("clean", 50)):
        (root / role).mkdir(parents=True)
        for n in range(10):
            soundfile.write(root / role / f"{n}.wav", hum(first + n), RATE)
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
    bundle = open_bundle(out)
    info = bundle.manifest.drift
    # Ten recordings of four windows a second apart; clean ones are not what the device hears.
    assert (info.windows, info.recordings, info.step_seconds) == (40, 10, 1.0)
    assert DRIFT in bundle.manifest.files
    assert info.threshold == bundle.drift.record.threshold
    monitor = DriftMonitor(bundle.drift)
    for seed in range(200, 212):
        for vector in bundle.encoder.encode(hum(seed).reshape(-1, RATE)):
            monitor.observe(vector)
    assert monitor.state().raised == 0
    for seed in range(300, 306):
        for vector in bundle.encoder.encode(hum(seed, hertz=1000.0).reshape(-1, RATE)):
            monitor.observe(vector)
    assert monitor.state().active
    # What explanations compare with was measured too: a tone more is named.
    assert HEALTHY_SPECTRUM in bundle.manifest.files
    louder = hum(400, seconds=1) + 0.1 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    (vector,) = bundle.encoder.encode(louder[None].astype(np.float32))
    why = explain_window(bundle, louder.astype(np.float32), vector).explanation
    assert why.bands[0].low_hz <= 1000 <= why.bands[0].high_hz
    assert "normal/" in why.text or "clean/" in why.text
    bundle.close()

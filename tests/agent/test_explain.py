"""Explanations: what was done to a sound is found again, in Hz, dB and seconds."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from support.bundles import FAULTY_HZ, RATE, WINDOW, tone, write

from agent.bank.draft import draft_add
from agent.bank.grow import make_version
from agent.bank.sound import embed_sound, find_sound
from agent.bundle.manifest import HEALTHY_SPECTRUM, Row
from agent.bundle.seal import seal
from agent.commands.score import score
from agent.config.evidence import EvidenceConfig
from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_density import CoveringConfig, MahalanobisConfig
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import BundleError
from agent.core.records import AlarmStatus, AudioBlock, Decision, Level, MachineState, Score, Window
from agent.deploy.load import open_bundle
from agent.deploy.versions import Versions, beside
from agent.evidence.record import PICTURE, read_record
from agent.evidence.recorder import EvidenceRecorder
from agent.evidence.write import EvidenceWriter
from agent.explain.nearest import nearest_healthy
from agent.explain.spectrum import Grid, HealthySpectrum, cell_levels, measure_healthy
from agent.explain.spoilt import cells_within, spoilt, without
from agent.explain.unusual import unusual_bands, unusual_map
from agent.machine.account import explain_window
from agent.machine.explain import Explainer
from agent.machine.scoring import ScoredWindow
from agent.score.scorer import HealthySet

SR = 16000


def machine(seed, seconds=10.0, rate=SR):
    """A hum with harmonics and pink-like noise whose level varies from window to window."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    noise = np.cumsum(rng.standard_normal(len(time)))
    noise -= np.convolve(noise, np.ones(400) / 400, "same")
    sound = 0.002 * noise + 0.01 * rng.standard_normal(len(time))
    for k in range(1, 6):
        sound += 0.05 / k * np.sin(2 * np.pi * 120 * k * time)
    return (sound * 10 ** (rng.normal(0, 0.5) / 20)).astype(np.float32)


@pytest.fixture(scope="module")
def healthy():
    return measure_healthy((machine(seed) for seed in range(24)), SR)


def with_tone(sound, hertz, decibels, healthy, start=0.0, stop=10.0):
    """A tone that raises its band's mean level by so much while it sounds."""
    grid = healthy.grid
    band = int(np.searchsorted(grid.hertz, hertz)) - 1
    base = 10 ** (healthy.level[band] / 10)
    amplitude = np.sqrt(base * (10 ** (decibels / 10) - 1))
    time = np.arange(len(sound)) / SR
    on = (time >= start) & (time < stop)
    return (sound + on * amplitude * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


@pytest.mark.parametrize(("hertz", "decibels"), [(2300, 14), (455, 12), (6100, 9)])
def test_a_tone_is_named_within_its_band_with_its_level(healthy, hertz, decibels):
    first, *more = unusual_bands(with_tone(machine(99), hertz, decibels, healthy), healthy)
    assert first.band.low_hz <= hertz <= first.band.high_hz
    assert first.band.high_hz / first.band.low_hz < 1.5
    assert first.band.decibels == pytest.approx(decibels, abs=1.5)
    assert not first.moments
    assert not [found for found in more if abs(found.deviations) > 3]


def test_a_tone_between_two_bands_is_named_with_both(healthy):
    edge = healthy.grid.hertz[18]
    first, *_ = unusual_bands(with_tone(machine(95), edge, 14, healthy), healthy)
    assert first.band.low_hz < edge < first.band.high_hz


def test_words_for_a_person(healthy):
    (first, *_) = unusual_bands(with_tone(machine(98), 2300, 14, healthy), healthy)
    assert first.words() in {"2.2-2.5 kHz +14 dB", "2.2-2.4 kHz +14 dB", "2.2-2.5 kHz +15 dB"}


def test_what_is_missing_is_quieter(healthy):
    spectrum = np.fft.rfft(machine(97))
    hertz = np.fft.rfftfreq(10 * SR, 1 / SR)
    spectrum[(hertz > 3000) & (hertz < 5000)] *= 0.1
    first = unusual_bands(np.fft.irfft(spectrum).astype(np.float32), healthy)[0].band
    assert first.decibels == pytest.approx(-20, abs=1.5)
    assert 2700 < first.low_hz < 3400
    assert 4500 < first.high_hz < 5500


def test_short_moments_are_told_and_placed(healthy):
    """A tone of 1.2 s hardly moves the mean of ten seconds."""
    sound = with_tone(machine(96), 2300, 12, healthy, 4.0, 5.2)
    first = unusual_bands(sound, healthy)[0]
    assert first.moments
    assert first.words().endswith("at moments")
    assert first.band.low_hz <= 2300 <= first.band.high_hz
    found = unusual_map(sound, healthy)
    band = int(np.searchsorted(found.hertz, 2300)) - 1
    cells = np.flatnonzero(found.marked[:, band])
    times = cells * found.cell_seconds
    assert times.min() == pytest.approx(4.0, abs=0.25)
    assert times.max() + found.cell_seconds == pytest.approx(5.2, abs=0.25)
    elsewhere = np.delete(found.marked, range(band - 2, band + 3), axis=1)
    assert elsewhere.mean() < 0.002


def test_healthy_sound_has_nothing_marked_and_nothing_named(healthy):
    for seed in range(50, 58):
        sound = machine(seed)
        assert all(abs(found.deviations) < 3 for found in unusual_bands(sound, healthy))
        assert unusual_map(sound, healthy).marked.mean() < 0.002


@pytest.mark.parametrize("rate", [8000, 16000, 32000, 44100])
def test_a_full_scale_sine_is_at_0_db_and_bands_fill_the_spectrum(rate):
    grid = Grid.of(rate)
    assert grid.hertz[-1] == rate / 2
    assert (np.diff(grid.edges) >= 2).all()
    sine = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate).astype(np.float32)
    levels = cell_levels(sine, grid)
    band = int(np.searchsorted(grid.hertz, 1000)) - 1
    assert levels[:, max(0, band - 1) : band + 2].max(axis=1) == pytest.approx(0, abs=1.2)


def test_its_file_gives_the_same_spectrum_and_a_wrong_one_is_refused(healthy):
    again = HealthySpectrum.of(healthy.table(), SR)
    assert np.allclose(again.level, healthy.level, atol=1e-4)
    assert np.allclose(again.cell_spread, healthy.cell_spread, atol=1e-4)
    with pytest.raises(ValueError, match="float32"):
        HealthySpectrum.of(healthy.table(), 8000)
    with pytest.raises(ValueError, match="float32"):
        HealthySpectrum.of(healthy.table()[:, :5], SR)
    broken = healthy.table()
    broken[3, 3] = 0
    with pytest.raises(ValueError, match="spread"):
        HealthySpectrum.of(broken, SR)


@pytest.mark.parametrize(
    "config",
    [
        KnnConfig(),
        KnnConfig(metric="euclidean"),
        MahalanobisConfig(),
        CoveringConfig(),
        FusionConfig(
            parts=(
                Part(columns=(0, 4), scorer=KnnConfig()),
                Part(columns=(4, 8), scorer=CoveringConfig()),
            )
        ),
    ],
)
def test_the_nearest_windows_whatever_the_scorer(config):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((9000, 8)).astype(np.float32)
    rows = [
        Row(source=f"{i // 5}.wav", start=5.0 * (i % 5), group=str(i // 5),
            attributes={"speed": str(i)})
        for i in range(9000)
    ]  # fmt: skip
    query = vectors[8123] + 0.001
    found = nearest_healthy(query, HealthySet(vectors, rows), config, window_seconds=10.0)
    assert len(found) == 3
    assert (found[0].source, found[0].start) == ("1624.wav", 15.0)
    assert found[0].attributes == {"speed": "8123"}
    assert found[0].distance < 3e-3 < found[1].distance <= found[2].distance
    # Another window of the same recording says little more.
    assert len({near.source for near in found}) == 3
    of_two = HealthySet(vectors[8120:8130], rows[8120:8130])
    few = nearest_healthy(query, of_two, config, window_seconds=10.0)
    # Of two recordings, a third window follows that overlaps none.
    assert len(few) == 3
    assert {near.source for near in few} == {"1624.wav", "1625.wav"}
    assert not [near for near in few[1:] if near.source == "1624.wav" and near.start in (10, 20)]


def dropout(sound):
    sound[3 * SR : 3 * SR + SR // 3] = 0.0


def stuck(sound):
    sound[3 * SR : 3 * SR + SR // 3] = 0.3


def click(sound):
    sound[3 * SR + 500 : 3 * SR + 502] = 0.9, -0.8


def not_finite(sound):
    sound[3 * SR : 3 * SR + SR // 3] = np.nan


@pytest.mark.parametrize("fault", [dropout, stuck, click, not_finite])
def test_what_the_wire_does_is_no_evidence_and_what_the_machine_does_is(healthy, fault):
    sound = with_tone(machine(91), 2300, 14, healthy, 6.0, 8.0)
    plain = unusual_map(sound, healthy).marked.any(axis=1)
    fault(sound)
    bare = unusual_map(sound, healthy)
    place = int(3.02 / bare.cell_seconds)
    assert bare.marked[place - 2 : place + 3].any()  # it was framed
    stretches = spoilt(sound, SR)
    assert len(stretches) == 1
    begin, end = stretches[0]
    assert 2.9 < begin < 3.04 < end < 3.5
    found = without(bare, stretches).marked.any(axis=1)
    assert not found[place - 3 : place + 4].any()
    assert (found[place + 4 :] == plain[place + 4 :]).all()  # the tone is, still
    assert found[int(6.5 / bare.cell_seconds) : int(7.5 / bare.cell_seconds)].all()
    left_out = cells_within(stretches, len(bare.deviations), bare.cell_seconds)
    first = unusual_bands(sound, healthy, left_out)[0]
    assert first.band.low_hz <= 2300 <= first.band.high_hz


def test_a_knock_rings_and_is_evidence(healthy):
    sound = machine(92)
    time = np.arange(SR // 5) / SR
    for at in (2.0, 4.5, 7.0):
        ring = 0.4 * np.exp(-time / 0.012) * np.sin(2 * np.pi * 3100 * time)
        sound[round(at * SR) : round(at * SR) + len(time)] += ring.astype(np.float32)
    assert spoilt(sound, SR) == ()
    assert unusual_map(sound, healthy).marked.any()


def test_healthy_sound_is_not_spoilt_and_many_clicks_are_somebodys_business():
    assert all(spoilt(machine(seed), SR) == () for seed in range(100, 110))
    sound = machine(93)
    sound[800::1600] = 0.9  # ten a second: a relay, a spark
    assert spoilt(sound, SR) == ()
    assert spoilt(machine(94), SR, lost=[4.0]) == ((pytest.approx(3.968), pytest.approx(4.032)),)


@pytest.fixture
def bundle(tiny_bundle, tmp_path):
    """The tiny bundle, with a healthy spectrum."""
    folder = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, folder)
    opened = open_bundle(folder)
    opened.close()
    sounds = [tone(WINDOW / RATE, seed=seed) for seed in range(20)]
    np.save(folder / HEALTHY_SPECTRUM, measure_healthy(sounds, RATE).table())
    seal(folder, opened.manifest.model_copy(update={"files": {}, "digest": ""}))
    return folder


def test_a_bundle_without_a_spectrum_still_names_the_nearest(tiny_bundle):
    opened = open_bundle(tiny_bundle)
    sound = tone(1, FAULTY_HZ)
    account = explain_window(opened, sound, opened.encoder.encode(sound[None])[0])
    opened.close()
    assert account.map is None
    assert account.explanation.bands == ()
    assert account.explanation.text.startswith("nearest healthy: h")


def test_a_damaged_spectrum_is_refused(bundle):
    opened = open_bundle(bundle)
    opened.close()
    np.save(bundle / HEALTHY_SPECTRUM, np.zeros((3, 8), np.float32))
    seal(bundle, opened.manifest.model_copy(update={"files": {}, "digest": ""}))
    with pytest.raises(BundleError, match="healthy_spectrum"):
        open_bundle(bundle)


def test_a_grown_bank_carries_the_spectrum(bundle, tmp_path):
    for seed in range(70, 76):
        write(tmp_path / "new" / f"n{seed}.wav", tone(1, seed=seed))
    opened = open_bundle(bundle)
    sound = embed_sound(find_sound([tmp_path / "new"], label="healthy"), opened)
    versions = Versions(bundle, beside(bundle))
    report = make_version(opened, versions, draft_add(opened, sound), max_rise=1e9)
    opened.close()
    grown = open_bundle(versions.path(report.version))
    grown.close()
    assert np.array_equal(grown.spectrum.table(), opened.spectrum.table())


def test_score_explains_anomalous_windows_alone(bundle, tmp_path):
    path = write(tmp_path / "x.wav", np.concatenate([tone(2, seed=90), tone(2, FAULTY_HZ)]))
    asked = ["--bundle", str(bundle), str(path), "--hop", "1", "--explain"]
    result = CliRunner().invoke(score, [*asked, "--json", str(tmp_path / "o.json")])
    assert result.exit_code == 0, result.output
    windows = json.loads((tmp_path / "o.json").read_text())["files"][0]["windows"]
    assert [window["explanation"] is None for window in windows] == [True, True, False, False]
    bands = windows[-1]["explanation"]["bands"]
    assert any(band["low_hz"] <= FAULTY_HZ <= band["high_hz"] and band["decibels"] > 20
               for band in bands)  # fmt: skip
    assert any(band["decibels"] < -20 and band["low_hz"] <= 440 <= band["high_hz"]
               for band in bands)  # fmt: skip
    assert "1.2-1.4 kHz +" in result.stdout or "1.3-1.4 kHz +" in result.stdout


def test_an_alarm_s_evidence_says_why_and_the_picture_shows_where(bundle, tmp_path):
    opened = open_bundle(bundle)
    writer = EvidenceWriter(tmp_path / "evidence", EvidenceConfig(before_seconds=4))
    writer.start()
    recorder = EvidenceRecorder("dev", "pump", writer)
    explainer = Explainer(recorder.explained)
    sounds = [tone(1, FAULTY_HZ if at >= 3 else 440, seed=at) for at in range(5)]
    for at, sound in enumerate(sounds[:4]):
        recorder.hear(AudioBlock(sound, RATE, float(at), 1e9 + at))
    window = Window(sounds[3], RATE, 3, 3.0, 1e9 + 3)
    vector = opened.encoder.encode(sounds[3][None])[0]
    status = AlarmStatus(Level.ALARM, 1e9, "a1", acknowledged=False)
    decision = Decision(
        Score(window, 0.5, 0), 0.05, exceeded=True, level=Level.ALARM, changed=True,
        since_wall=1e9, alarm_id="a1", status=status,
    )  # fmt: skip
    assert recorder.judged(decision, opened.rows) == "evidence/pump/a1"
    judged = ScoredWindow(decision.score, MachineState.RUNNING, opened, vector)
    told = explainer.explain(decision, judged)
    writer.stop()
    opened.close()
    folder = tmp_path / "evidence" / "pump" / "a1"
    record = read_record(folder)
    assert not record.complete
    assert record.explanation == told
    assert any(band.low_hz <= FAULTY_HZ <= band.high_hz for band in told.bands)
    unusual = record.unusual
    assert unusual.start == pytest.approx(3.0, abs=0.01)
    table = np.array(unusual.deviations)
    assert table.shape[1] == len(unusual.edges_hz) - 1
    band = int(np.searchsorted(unusual.edges_hz, FAULTY_HZ)) - 1
    assert (table[:, band] > 4).all()
    plain = EvidenceWriter(tmp_path / "plain", EvidenceConfig(before_seconds=4))
    plain.start()
    other = EvidenceRecorder("dev", "pump", plain)
    for at, sound in enumerate(sounds[:4]):
        other.hear(AudioBlock(sound, RATE, float(at), 1e9 + at))
    other.judged(decision, opened.rows)
    plain.stop()
    without = (tmp_path / "plain" / "pump" / "a1" / PICTURE).read_bytes()
    assert (folder / PICTURE).read_bytes() != without


def test_a_window_that_could_not_be_judged_is_not_explained(tiny_bundle):
    opened = open_bundle(tiny_bundle)
    score_ = Score(Window(np.zeros(WINDOW, np.float32), RATE, 0, 0.0, 1e9), None)
    opened.close()
    assert Explainer().explain(None, ScoredWindow(score_, MachineState.UNKNOWN, opened)) is None

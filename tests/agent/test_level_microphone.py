"""Another microphone than in training: learnt, taken off, kept, undone, told; faults still heard."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner
from scipy import signal

from agent.bank.sound import Recording, cut
from agent.commands.commission import commission
from agent.commands.doctor import doctor
from agent.commands.learn import learn
from agent.commands.score import score
from agent.config.agent import MachineConfig, load_config
from agent.core.errors import AuscultError
from agent.core.records import AudioBlock
from agent.deploy.load import open_bundle
from agent.level.baseline import BandShape, LevelFile
from agent.level.equaliser import StreamEqualiser, equalised, equalised_blocks
from agent.level.machine import MachineLevel
from agent.level.words import microphone_words
from agent.machine.scoring import WindowScorer
from agent.machine.settings import settings_of
from agent.request.commands import LevelBaseline
from agent.service import Agent
from agent.window.rolling import RollingWindow
from trainer.synth.families import render_family

RATE = 16_000


def sound(seconds: float, seed: int, *, whine: bool = False) -> np.ndarray:
    rng = np.random.default_rng([9, seed])
    found = render_family("gearbox", 13, rng, seconds=seconds, rate=RATE)
    if whine:
        time = np.arange(len(found)) / RATE
        for hertz in (1100, 2300, 3100):
            found = found + 0.3 * found.std() * np.sin(2 * np.pi * hertz * time)
    return found.astype(np.float32)


def shelf(samples: np.ndarray, at: float, decibels: float, gain_db: float = 0.0) -> np.ndarray:
    """A microphone that hears that much more from a frequency on."""
    hertz = np.linspace(0, RATE / 2, 513)
    rise = decibels / (1 + np.exp(-(hertz - at) / 150.0)) + gain_db
    taps = signal.firwin2(1025, hertz, 10 ** (rise / 20), fs=RATE)
    return signal.fftconvolve(samples, taps, mode="same").astype(np.float32)


def other(samples: np.ndarray) -> np.ndarray:
    """Another microphone: 2 dB louder, and 10 dB less from 3 kHz on."""
    return shelf(samples, 3000, -10.0, gain_db=2.0)


def deaf(samples: np.ndarray) -> np.ndarray:
    """A microphone that hears nothing above 4 kHz."""
    return shelf(samples, 4000, -70.0)


@pytest.fixture(scope="module")
def bundle_path(tmp_path_factory):
    root = tmp_path_factory.mktemp("gearbox")
    (root / "data" / "normal").mkdir(parents=True)
    for n in range(30):
        soundfile.write(root / "data" / "normal" / f"{n:03d}.flac", sound(10.0, n), RATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.collect.learning.NICENESS", 0)
        done = CliRunner().invoke(learn, [str(root / "data"), "--out", str(root / "bundle")])
    assert done.exit_code == 0, done.output
    return root / "bundle"


@pytest.fixture
def bundle(bundle_path):
    opened = open_bundle(bundle_path, threads=1)
    yield opened
    opened.close()


class Place:
    """A machine heard through some microphone, as the pipeline does."""

    def __init__(self, bundle, path=None, hop=2.0):
        self.bundle, self.hop = bundle, hop
        self.terms = settings_of(MachineConfig(name="gear", hop_seconds=hop), bundle)
        self.level = MachineLevel("gear", LevelFile(path), "judge")
        self.judge = WindowScorer("gear", bundle)
        self.judge.level = self.level.begin(bundle, *self.terms.thresholds.each)
        self.judge.hearing = self.level.hearing
        self.clock = 0.0

    def hear(self, samples):
        """Scores of its windows, 1 being the threshold."""
        encoder, scale = self.bundle.manifest.encoder, self.terms.thresholds.scale
        rolling = RollingWindow(encoder.window_samples, round(self.hop * RATE), RATE)
        found = []
        for window in rolling.push(AudioBlock(samples, RATE, self.clock, self.clock)):
            judged = self.judge.judge(window)
            assert judged.vector is not None
            begin, end = window.monotonic, window.end_monotonic
            self.level.hear(judged.vector, -30.0, begin, end, judged.score.window.samples)
            found.append(scale.of(judged.score.counted))
        self.clock += len(samples) / RATE + 60.0
        return np.array(found)

    def take(self, **how):
        answer = self.level.take_microphone("Ada", "new microphone", **how)
        self.judge.hearing = self.level.hearing
        return answer


def test_windows_that_overlap_come_out_the_same_and_the_shape_is_gone():
    points = ((1000.0, 0.0), (2000.0, -8.0), (6000.0, -8.0))
    noise = np.random.default_rng(3).standard_normal(20 * RATE).astype(np.float32)
    rolling = RollingWindow(10 * RATE, 2 * RATE, RATE)
    stream, last = StreamEqualiser(points), None
    for window in rolling.push(AudioBlock(noise, RATE, 0.0, 0.0)):
        found = stream.apply(window)
        assert found.dtype == np.float32
        assert len(found) == len(window.samples)
        if last is not None:
            np.testing.assert_array_equal(found[: -2 * RATE], last[2 * RATE :])
        last = found
    whole = equalised(noise, RATE, points)
    np.testing.assert_allclose(last, whole[-len(last) :], atol=1e-4)
    hertz, before = signal.welch(noise, RATE, nperseg=2048)
    _, after = signal.welch(whole, RATE, nperseg=2048)
    change = 10 * np.log10(after / before)
    assert np.abs(change[(hertz > 100) & (hertz < 900)]).max() < 0.5
    assert np.abs(change[(hertz > 2200) & (hertz < 5900)] - 8.0).max() < 0.5


def test_windows_at_a_hop_that_varies_share_what_was_equalised():
    """Their numbers follow each other, whatever lies between their places in the stream."""
    points = ((1000.0, 0.0), (2000.0, -8.0))
    noise = np.random.default_rng(4).standard_normal(20 * RATE).astype(np.float32)
    windows = [*RollingWindow(10 * RATE, RATE, RATE).push(AudioBlock(noise, RATE, 0.0, 0.0))]
    stream, last = StreamEqualiser(points), None
    for number, (before, at) in enumerate([(0, 0), (0, 5), (5, 6), (6, 10)]):
        found = stream.apply(replace(windows[at], index=number))
        moved = (at - before) * RATE
        if last is not None:
            np.testing.assert_array_equal(found[:-moved], last[moved:])
        last = found


def test_another_microphone_scores_as_a_fault_until_it_is_taken_off(bundle, tmp_path):
    place = Place(bundle, tmp_path / "gear.json")
    before = place.hear(other(sound(120, 100)))
    assert np.median(before) > 1.0
    answer = place.take()
    assert answer.decibels + np.mean(answer.bands.decibels[-8:]) == pytest.approx(-8.0, abs=1.5)
    assert not any(answer.bands.missing)
    after = place.hear(other(sound(120, 101)))
    assert after.max() < 1.0
    # Real faults are heard through it as before.
    assert np.median(place.hear(other(sound(40, 102, whine=True)))) > 1.5
    # It is kept with the state, for the bundle it was taken against.
    again = Place(bundle, tmp_path / "gear.json")
    assert again.level.held == answer
    assert again.hear(other(sound(30, 103))).max() < 1.0
    again.level.undo("Bob")
    again.judge.hearing = again.level.hearing
    assert np.median(again.hear(other(sound(30, 104)))) > 1.0


def test_what_was_heard_before_the_change_does_not_spoil_it(bundle):
    place = Place(bundle)
    place.hear(sound(200, 110))
    place.hear(other(sound(20, 111)))
    with pytest.raises(AuscultError, match="windows apart"):
        place.take()
    place.hear(other(sound(110, 112)))
    answer = place.take()
    assert answer.windows < 16
    assert place.hear(other(sound(60, 113))).max() < 1.0


def test_the_same_microphone_needs_nothing(bundle):
    place = Place(bundle)
    place.hear(sound(120, 120))
    assert place.take(needed=True) is None
    assert place.level.held is None


def test_bands_that_it_does_not_hear_are_left_out_and_said(bundle):
    place = Place(bundle)
    assert np.median(place.hear(deaf(sound(120, 130)))) > 1.5
    answer = place.take()
    edges = np.array(answer.bands.hertz)
    missing = np.array(answer.bands.missing)
    assert missing[edges[1:] > 4400].all()
    assert not missing[edges[1:] < 3600].any()
    assert "left out of scores" in microphone_words(answer)
    assert "to 7 kHz" in microphone_words(answer)
    assert place.hear(deaf(sound(120, 131))).max() < 1.0
    # A doubled gain is a change of level through it, too; a fault is a fault.
    assert place.hear(np.float32(2.0) * deaf(sound(60, 132))).max() < 1.0
    assert np.median(place.hear(deaf(sound(40, 133, whine=True)))) > 1.5


def test_a_pure_change_of_level_keeps_what_the_microphone_does(bundle):
    place = Place(bundle)
    place.hear(other(sound(120, 140)))
    bands = place.take().bands
    answer = place.level.take("Ada", decibels=9.0)
    assert (answer.decibels, answer.bands) == (9.0, bands)


def test_bands_that_are_no_bands_are_refused():
    with pytest.raises(ValueError, match="must rise"):
        BandShape(hertz=(100.0, 100.0), decibels=(1.0,), missing=(False,))
    with pytest.raises(ValueError, match="each band"):
        BandShape(hertz=(100.0, 200.0), decibels=(1.0, 2.0), missing=(False,))
    with pytest.raises(ValueError, match="not both"):
        LevelBaseline(machine="m", transaction="1", operator="Ada", decibels=3.0, microphone=True)


def agent_file(folder, bundle_path, samples, commission):
    (folder / "sound").mkdir(exist_ok=True)
    soundfile.write(folder / "sound" / "a.flac", samples, RATE)
    machine = {
        "name": "gear", "bundle": str(bundle_path), "hop_seconds": 2, "commission": commission,
        "source": {"kind": "replay", "paths": [str(folder / "sound")], "speed": "max"},
    }  # fmt: skip
    path = folder / "agent.yaml"
    config = {
        "device": "hall", "state_dir": str(folder / "state"), "machines": [machine],
        "jsonl": str(folder / "told.jsonl"), "evidence": {"free_share": 0},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(config))
    return path


def run(path):
    told = path.parent / "told.jsonl"
    told.unlink(missing_ok=True)
    agent = Agent(load_config(path))
    agent.prepare()
    agent.start()
    remarks = agent.pipelines[0]
    agent.wait()
    said = remarks.remarks
    days = remarks.days.bands()
    agent.stop()
    assert agent.fault() is None
    return [json.loads(line) for line in told.read_text().splitlines()], said, days


def last_scores(told, count=30):
    return np.array([one["score"] for one in told if one["kind"] == "score"][-count:])


def test_commissioning_takes_it_off_once_the_machine_is_called_well(bundle_path, tmp_path):
    path = agent_file(tmp_path, bundle_path, other(sound(240, 200)), {"running_hours": 0.12})
    told, remarks, _ = run(path)
    assert last_scores(told).min() > 1.0
    assert any("answer the would-be alarms" in one for one in remarks), remarks
    # The sound alone does not tell a microphone from a fault: somebody says which.
    words = ["--config", str(path), "--all", "healthy", "--no-grow", "--by", "Ada"]
    done = CliRunner().invoke(commission, words)
    assert done.exit_code == 0, done.output
    told, remarks, days = run(path)
    taken = [one["data"] for one in told if one["kind"] == "event"]
    taken = [one for one in taken if one["event"] == "level_baseline"]
    assert [one["operator"] for one in taken] == ["commissioning"]
    assert "another microphone" in taken[0]["note"]
    assert last_scores(told).max() < 1.0
    assert any("as commissioning said" in one for one in remarks)
    # What is taken off is no change of the machine's bands, and its chain is that of training.
    assert days == ()
    assert not any("heard otherwise than in training" in one for one in remarks)
    assert not any("does not know this machine" in one for one in remarks)
    # It goes on after a restart, and is told by the doctor.
    told, remarks, _ = run(path)
    assert last_scores(told, 1000).max() < 1.0
    shown = CliRunner().invoke(doctor, ["--config", str(path)]).output
    assert "another microphone than in training is taken off" in " ".join(shown.split())


def test_commissioning_leaves_out_unasked_what_a_microphone_does_not_hear(bundle_path, tmp_path):
    path = agent_file(tmp_path, bundle_path, deaf(sound(240, 210)), {"running_hours": 0.12})
    told, remarks, _ = run(path)
    assert last_scores(told).max() < 1.0
    assert any("left out of scores" in one for one in remarks)


def test_commissioning_takes_it_as_it_is_where_asked(bundle_path, tmp_path):
    asked = {"running_hours": 0.12, "microphone": "as_is"}
    path = agent_file(tmp_path, bundle_path, deaf(sound(330, 210)), asked)
    told, remarks, _ = run(path)
    assert last_scores(told).min() > 1.0
    # What to do about it is said.
    (said,) = (one for one in remarks if one.startswith("heard otherwise than in training"))
    assert "above 3.9 kHz" in said
    assert "`level_baseline` with `microphone`" in said


def test_recordings_are_scored_as_the_agent_hears_them(bundle, bundle_path, tmp_path):
    place = Place(bundle, tmp_path / "gear.json")
    place.hear(deaf(sound(120, 150)))
    place.take()
    soundfile.write(tmp_path / "healthy.flac", deaf(sound(20, 151)), RATE)
    soundfile.write(tmp_path / "whine.flac", deaf(sound(20, 151, whine=True)), RATE)
    words = ["--bundle", str(bundle_path), str(tmp_path), "--json", str(tmp_path / "found.json")]

    def verdicts(*more):
        done = CliRunner().invoke(score, [*words, *more])
        assert done.exit_code == 0, done.output
        files = json.loads((tmp_path / "found.json").read_text())["files"]
        return [one["verdict"] for one in files], done.stderr

    assert verdicts()[0] == ["anomalous", "anomalous"]
    found, said = verdicts("--microphone", str(tmp_path / "gear.json"))
    assert found == ["normal", "anomalous"]
    assert "left out of scores" in said
    place.level.undo("Ada")
    done = CliRunner().invoke(score, [*words, "--microphone", str(tmp_path / "gear.json")])
    assert done.exit_code != 0
    assert "nothing in it holds for this bundle" in str(done.exception)


def test_a_recording_in_blocks_comes_out_as_a_whole_one():
    points = ((1000.0, 0.0), (2000.0, -8.0))
    noise = np.random.default_rng(4).standard_normal(3 * RATE).astype(np.float32)
    cuts = np.split(noise, [7000, 7100, 20000])
    found = np.concatenate(list(equalised_blocks(cuts, RATE, points)))
    np.testing.assert_allclose(found, equalised(noise, RATE, points), atol=1e-5)


def test_sound_that_joins_a_bank_is_heard_as_it_was_judged(bundle, tmp_path):
    points = ((1000.0, 0.0), (3000.0, -10.0))
    sounds = sound(20, 160)
    soundfile.write(tmp_path / "a.flac", shelf(sounds, 2000, -10.0), RATE)
    plain = Recording(tmp_path / "a.flac", "a")
    taken = replace(plain, bands_db=points)
    (_, before), (_, after) = cut(plain, bundle)[0], cut(taken, bundle)[0]
    np.testing.assert_allclose(after, equalised(before, RATE, points), atol=1e-6)
    assert np.abs(after - before).max() > 0.001

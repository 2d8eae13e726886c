"""Whether a bundle recognises its machine: silent wrong bundles, deaf ones, machines at rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from support import healthy
from support.bundles import tone, write

from agent.commands.learn import learn
from agent.core.levels import LevelRange
from agent.core.records import Decision, Level, MachineState, Validity, Window
from agent.core.said import read_said
from agent.deploy.load import open_bundle
from agent.doctor.examine import examine
from agent.machine.scoring import WindowScorer
from agent.recognition.reference import Reference
from agent.recognition.watch import RecognitionWatch, recognition_file

RATE, SECONDS = healthy.RATE, 10
HOP = RATE


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """What a machine that hums has taught."""
    root = tmp_path_factory.mktemp("hum")
    healthy.folder(root / "data", still=0)
    done = CliRunner().invoke(learn, [str(root / "data"), "--out", str(root / "bundle")])
    assert done.exit_code == 0, done.output
    found = open_bundle(root / "bundle", threads=1)
    yield found
    found.close()


def other(seed, seconds=60.0):
    """Another machine: a whine in a band of noise, as loud as the one that hums."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    sound = 0.06 * np.sin(2 * np.pi * 2900 * t) + 0.03 * np.diff(rng.standard_normal(len(t) + 1))
    return sound.astype(np.float32)


def heard(watch, bundle, sound, *, state=None, validity=Validity.VALID, until=1e9):
    """Let a stretch of sound be judged, by a threshold that nothing exceeds."""
    judge = WindowScorer("pump", bundle)
    size = SECONDS * RATE
    for n in range(min((len(sound) - size) // HOP + 1, int(until))):
        samples = sound[n * HOP : n * HOP + size]
        window = Window(samples, RATE, n, float(n), 1e9 + n, validity=validity)
        judged = judge.judge(window)
        watch.take(
            Decision(
                judged.score, 1e9, False, Level.NORMAL, False, 1e9,
                state=judged.state if state is None else state,
            ),
            judged,
        )  # fmt: skip
    return watch.found


def test_its_own_machine_is_recognised_at_any_gain(bundle):
    for gain in (1.0, 0.5, 2.0):
        watch = RecognitionWatch("pump")
        watch.use(bundle)
        found = heard(watch, bundle, gain * healthy.hum(70, 60.0))
        assert (found.state, found.why, watch.why) == ("yes", "", "")
        assert found.distance < 1.75


def test_another_machine_that_never_exceeds_the_threshold_is_told(bundle, tmp_path, caplog):
    path = recognition_file(tmp_path, "pump")
    watch = RecognitionWatch("pump", path)
    watch.use(bundle)
    assert watch.found.state == "waiting"
    found = heard(watch, bundle, other(1))

    assert found.state == "no"
    assert found.distance > 2
    assert found.bundle == bundle.manifest.digest
    assert "does not know this machine" in watch.why
    assert "learn the machine anew" in watch.why
    assert read_said(path) == watch.why
    assert caplog.text.count("does not know") == 1
    watch.use(bundle)
    assert not watch.why
    assert not read_said(path)


def test_a_fault_of_a_machine_that_was_known_for_long_blames_no_bundle(bundle, monkeypatch):
    monkeypatch.setattr("agent.recognition.watch._LATEST", 20)
    watch = RecognitionWatch("pump")
    watch.use(bundle)
    assert heard(watch, bundle, healthy.hum(77, 40.0)).state == "yes"
    assert heard(watch, bundle, other(4)).state == "yes"
    watch.use(bundle)  # put there anew, it is asked again
    assert heard(watch, bundle, other(4)).state == "no"


def test_the_same_windows_are_held_against_the_bundle_before(bundle):
    watch = RecognitionWatch("pump")
    watch.use(bundle)
    assert heard(watch, bundle, healthy.hum(75, 30.0)).before is None
    moved = bundle.bank.vectors + 3 * bundle.bank.vectors.std(axis=0)
    farther = replace(bundle, bank=replace(bundle.bank, vectors=moved))
    watch.use(farther)
    found = heard(watch, farther, healthy.hum(76, 30.0))
    assert found.before < 1.75
    assert found.distance > found.before + 1


def test_scores_far_below_the_healthy_ones_are_foreign_too(bundle):
    """A bundle whose scores all lie below what it calls healthy: what is heard is not its own."""
    scorer = bundle.scorer

    class Low:
        def score(self, vectors):
            values, nearest = scorer.score(vectors)
            return values * 0.01 - 50.0, nearest

    watch = RecognitionWatch("pump")
    watch.use(bundle)
    found = heard(watch, replace(bundle, scorer=Low()), other(2))
    assert found.state == "no"
    assert "score below all of its healthy ones" in found.why


class Deaf:
    """An encoder that gives the same for every sound."""

    def __init__(self, encoder):
        self.info, self.layout, self._vector = encoder.info, None, None
        self._inner = encoder

    def encode(self, waveforms):
        if self._vector is None:
            self._vector = self._inner.encode(waveforms[:1])
        return np.repeat(self._vector, len(waveforms), axis=0)


def test_a_bundle_that_scores_everything_alike_is_deaf(bundle):
    watch = RecognitionWatch("pump")
    watch.use(bundle)
    found = heard(watch, replace(bundle, encoder=Deaf(bundle.encoder)), healthy.hum(71, 40.0))
    assert found.state == "no"
    assert "it is deaf" in found.why


def test_the_same_sound_over_and_over_makes_no_bundle_deaf(bundle):
    watch = RecognitionWatch("pump")
    watch.use(bundle)
    second = healthy.hum(72, 1.0)
    assert "deaf" not in heard(watch, bundle, np.tile(second, 40)).why


def test_what_the_bundle_before_judged_and_this_one_does_not_is_told(bundle):
    """The machine runs on as loud as ever, and to the new bundle it stands still."""
    watch = RecognitionWatch("pump")
    watch.use(bundle)
    sound = healthy.hum(73, 60.0)
    heard(watch, bundle, sound)
    loud = 20 * np.log10(np.sqrt(np.mean(sound**2)))
    for state, validity in ((MachineState.IDLE, Validity.VALID), (None, Validity.TOO_QUIET)):
        watch.use(bundle)
        heard(watch, bundle, sound)
        watch.use(bundle, LevelRange((loud - 1, loud + 1)))
        found = heard(watch, bundle, sound, state=state, validity=validity)
        assert found.state == "no"
        assert "as loud as what the bundle before judged" in found.why


def test_a_machine_that_is_switched_off_blames_no_bundle(bundle):
    watch = RecognitionWatch("pump")
    watch.use(bundle)
    heard(watch, bundle, healthy.hum(74, 60.0))
    watch.use(bundle, LevelRange((-25.0, -15.0)))
    found = heard(watch, bundle, healthy.idle(1, 120.0), state=MachineState.IDLE)
    assert (found.state, found.why) == ("waiting", "")
    assert found.heard > 100
    assert not watch.why


def test_a_bundle_that_judges_nothing_from_the_start_is_told_after_minutes(bundle):
    watch = RecognitionWatch("pump")
    watch.use(bundle)
    quiet = healthy.idle(2, 320.0)
    heard(watch, bundle, quiet, state=MachineState.IDLE, until=200)
    assert not watch.why
    heard(watch, bundle, quiet, state=MachineState.IDLE)
    assert "judged none of" in watch.why
    assert "if the machine runs, the bundle is another machine's" in watch.why


def test_a_bundle_with_too_little_healthy_sound_says_that_it_cannot_tell(tiny_bundle):
    found = open_bundle(tiny_bundle)
    try:
        assert Reference.of(found) is None
        watch = RecognitionWatch("pump")
        watch.use(found)
        assert watch.found.state == "waiting"
    finally:
        found.close()


def test_doctor_says_it(tmp_path, tiny_bundle, bundle):
    write(tmp_path / "a.wav", tone(3))
    path = tmp_path / "agent.yaml"
    machine = {"name": "pump", "bundle": str(tiny_bundle), "source": f"replay:{tmp_path / 'a.wav'}"}
    path.write_text(yaml.safe_dump({"state_dir": str(tmp_path / "state"), "machines": [machine]}))
    assert not [one for one in examine(path) if one.name == "bundle of pump at work"]
    watch = RecognitionWatch("pump", recognition_file(tmp_path / "state", "pump"))
    watch.use(bundle)
    heard(watch, bundle, other(3))
    (found,) = [one for one in examine(path) if one.name == "bundle of pump at work"]
    assert "does not know this machine" in found.text

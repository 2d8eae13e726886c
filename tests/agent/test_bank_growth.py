"""Growing a bank: what joins, what is refused, and that every step can be taken back."""

from __future__ import annotations

import json
import os
import shutil
import time

import numpy as np
import pytest
import soundfile
from support.bundles import FAULTY_HZ, RATE, build_bundle, tone, write

from agent.bank.draft import GrowthError, draft_add, draft_compact, draft_remove
from agent.bank.grow import make_version
from agent.bank.probation import known_alarms
from agent.bank.sound import embed_sound, find_sound
from agent.bundle.facts import PlantedFault, SightInfo
from agent.bundle.manifest import ENCODER, FAULTS, MANIFEST
from agent.bundle.seal import seal
from agent.bundle.verify import read_manifest
from agent.calibrate.sight import sight_at
from agent.core.errors import AuscultError, BundleError
from agent.deploy.load import open_bundle
from agent.deploy.versions import Versions, active_bundle, beside
from agent.evidence.record import EvidenceRecord, JudgedWindow
from agent.offline.clips import score_clip

NEW_HZ = 700.0  # a condition of the machine that training never heard


@pytest.fixture
def bundle_path(tmp_path, tiny_bundle):
    return shutil.copytree(tiny_bundle, tmp_path / "pump")


@pytest.fixture
def versions(bundle_path):
    return Versions(bundle_path, beside(bundle_path))


@pytest.fixture
def new_sound(tmp_path):
    for n in range(4):
        write(tmp_path / "new" / f"n{n}.wav", tone(3, NEW_HZ, seed=100 + n))
    return tmp_path / "new"


def add(path, versions, place, **options):
    bundle = open_bundle(path)
    try:
        sound = embed_sound(find_sound([place], label="healthy"), bundle)
        draft = draft_add(bundle, sound)
        return make_version(bundle, versions, draft, **options)
    finally:
        bundle.close()


def score(path, hertz):
    bundle = open_bundle(path)
    try:
        value = score_clip(bundle, tone(1, hertz, seed=999)).value
        return value > bundle.manifest.threshold.value
    finally:
        bundle.close()


def snapshot(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_healthy_sound_joins_a_version_beside_the_untouched_original(
    bundle_path, versions, new_sound
):
    before = snapshot(bundle_path)
    assert score(bundle_path, NEW_HZ)
    report = add(bundle_path, versions, new_sound)
    assert (report.version, report.rows, report.added) == (1, 5 + 20, 20)
    assert report.novel == 1.0
    # Made, not yet used.
    assert active_bundle(bundle_path, [versions.folder]) == bundle_path
    versions.use(1)
    grown = active_bundle(bundle_path, [versions.folder])
    assert grown == versions.path(1)
    assert not score(grown, NEW_HZ)
    assert not score(grown, 440)
    assert score(grown, FAULTY_HZ)
    assert snapshot(bundle_path) == before
    manifest = read_manifest(grown)
    assert manifest.growth.origin == read_manifest(bundle_path).digest
    assert manifest.threshold.healthy_windows == 25
    assert (grown / ENCODER).stat().st_ino != (bundle_path / ENCODER).stat().st_ino


def with_faults(path, hertz, *, kept=True):
    """A bundle that tells what faults score: the first planted, the others recorded."""
    bundle = open_bundle(path)
    try:
        size = bundle.manifest.encoder.window_samples
        vectors = bundle.encoder.encode(np.stack([tone(2, one)[:size] for one in hertz]))
        first, *others = (float(score) for score in bundle.scorer.score(vectors)[0])
    finally:
        bundle.close()
    if kept:
        np.save(path / FAULTS, vectors)
    told = SightInfo(
        planted=(PlantedFault(kind="a tone", level_db=0.0, score=first),), recorded=tuple(others)
    )
    seal(path, bundle.manifest.model_copy(update={"sight": told, "files": {}, "digest": ""}))
    return told, vectors


def test_what_faults_score_is_told_on_the_grown_banks_own_axis(bundle_path, versions, new_sound):
    before, vectors = with_faults(bundle_path, [NEW_HZ, NEW_HZ, FAULTY_HZ])
    add(bundle_path, versions, new_sound)
    grown = open_bundle(versions.path(1))
    try:
        sight, threshold = grown.manifest.sight, grown.manifest.threshold.value
        scores, _ = grown.scorer.score(vectors)
        assert np.array_equal(grown.faults, vectors)
    finally:
        grown.close()
    assert (sight.planted[0].score, *sight.recorded) == pytest.approx(scores.tolist(), abs=1e-4)
    # What is healthy by now was a fault before; the other is one still.
    assert before.recorded[0] > threshold >= sight.recorded[0]
    assert "of 2 recorded faults 1 would raise an alarm" in sight_at(threshold, sight).text


def test_nothing_is_told_of_faults_where_their_embeddings_were_not_kept(
    bundle_path, versions, new_sound
):
    with_faults(bundle_path, [NEW_HZ, FAULTY_HZ], kept=False)
    report = add(bundle_path, versions, new_sound)
    sight = read_manifest(versions.path(1)).sight
    assert sight == SightInfo()
    assert any("exported without their embeddings" in note for note in report.notes)


def test_rollback_and_rollforward(bundle_path, versions, new_sound, tmp_path):
    add(bundle_path, versions, new_sound)
    versions.use(1)
    write(tmp_path / "more" / "m.wav", tone(3, 550, seed=1))
    write(tmp_path / "more" / "m2.wav", tone(3, 550, seed=2))
    # These tones are so alike that any new one raises the tiny threshold manifold.
    report = add(versions.path(1), versions, tmp_path / "more", max_rise=1e9)
    assert report.version == 2
    versions.use(2)
    assert versions.rollback() == 1
    assert versions.rollback() == 0
    assert active_bundle(bundle_path, [versions.folder]) == bundle_path
    with pytest.raises(BundleError, match="nothing to go back to"):
        versions.rollback()
    versions.use(2)
    assert [v.current for v in versions.all()] == [False, False, True]
    with pytest.raises(BundleError, match="no version 7"):
        versions.use(7)


def test_a_newer_export_at_the_same_place_is_not_overruled(bundle_path, versions, new_sound):
    add(bundle_path, versions, new_sound)
    versions.use(1)
    shutil.rmtree(bundle_path)
    build_bundle(bundle_path, threshold=0.07)
    assert active_bundle(bundle_path, [versions.folder]) == bundle_path


@pytest.mark.parametrize("target", ["0009", "../pump", "/etc", "x", "../../../../../../../etc"])
def test_a_link_that_leads_elsewhere_is_not_followed(bundle_path, versions, target):
    versions.folder.mkdir()
    (versions.folder / "current").symlink_to(target)
    assert active_bundle(bundle_path, [versions.folder]) == bundle_path


def test_a_damaged_version_is_not_used(bundle_path, versions, new_sound):
    add(bundle_path, versions, new_sound)
    versions.use(1)
    (versions.path(1) / MANIFEST).write_bytes(b"{")
    assert active_bundle(bundle_path, [versions.folder]) == bundle_path
    assert versions.rollback() == 0


def test_a_failed_write_leaves_no_version(bundle_path, versions, new_sound, monkeypatch):
    from agent.bank import grow

    def full(*_args, **_kw):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(grow, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        add(bundle_path, versions, new_sound)
    assert versions.numbers() == []
    assert list(versions.folder.iterdir()) == []


def test_the_same_recording_does_not_join_twice(bundle_path, versions, new_sound, tmp_path):
    add(bundle_path, versions, new_sound)
    shutil.copy(new_sound / "n0.wav", tmp_path / "n0.wav")
    with pytest.raises(GrowthError, match="in the bank already: n0-"):
        add(versions.path(1), versions, tmp_path / "n0.wav")


def test_the_same_content_joins_once_and_is_known_by_another_name(
    bundle_path, versions, new_sound, tmp_path
):
    shutil.copy(new_sound / "n0.wav", new_sound / "copy.wav")
    assert len(find_sound([new_sound], label="healthy")) == 4
    add(bundle_path, versions, new_sound)
    shutil.copy(new_sound / "n1.wav", tmp_path / "renamed.wav")
    with pytest.raises(GrowthError, match="in the bank already: renamed-"):
        add(versions.path(1), versions, tmp_path / "renamed.wav")


def test_sound_that_the_bank_was_made_of_is_known_by_what_it_sounds_like(
    bundle_path, versions, tmp_path
):
    learnt = tone(1, seed=2)  # as `build_bundle` has it
    soundfile.write(tmp_path / "again.wav", learnt, RATE, subtype="FLOAT")
    with pytest.raises(GrowthError, match=r"in the bank already: again-\w+\.wav \(as h2\.wav\)"):
        add(bundle_path, versions, tmp_path / "again.wav")
    write(tmp_path / "other.wav", tone(3, seed=77))
    add(bundle_path, versions, tmp_path / "other.wav")


def test_invalid_windows_do_not_join(bundle_path, versions, tmp_path):
    sound = np.concatenate([tone(3, NEW_HZ), np.zeros(3 * RATE, np.float32)])
    write(tmp_path / "half.wav", sound)
    bundle = open_bundle(bundle_path)
    found = embed_sound(find_sound([tmp_path / "half.wav"], label="healthy"), bundle)
    bundle.close()
    assert max(row.start for row in found.rows) <= 2.5
    assert found.invalid.total() >= 5
    write(tmp_path / "dead.wav", np.zeros(3 * RATE, np.float32))
    with pytest.raises(GrowthError, match="no window"):
        add(bundle_path, versions, tmp_path / "dead.wav")


def test_a_recording_without_a_label_is_refused(new_sound):
    with pytest.raises(AuscultError, match="nothing says"):
        find_sound([new_sound])


def test_a_threshold_that_rises_too_far_is_refused(bundle_path, versions, tmp_path):
    # A bank whose threshold fits it; then sound so scattered that healthy would mean anything.
    for n in range(4):
        write(tmp_path / "base" / f"b{n}.wav", tone(3, 440, seed=200 + n))
    add(bundle_path, versions, tmp_path / "base")
    for n in range(12):
        write(tmp_path / "wild" / f"w{n}.wav", tone(2, 300 + 110 * n, seed=n))
    with pytest.raises(GrowthError, match="threshold would rise"):
        add(versions.path(1), versions, tmp_path / "wild")
    assert versions.numbers() == [1]
    assert add(versions.path(1), versions, tmp_path / "wild", max_rise=1e9).version == 2


def evidence(root, alarm_id, hertz, *, feedback=None):
    folder = root / alarm_id
    folder.mkdir(parents=True)
    soundfile.write(folder / "sound.flac", tone(3, hertz, seed=7), RATE, subtype="PCM_24")
    record = EvidenceRecord(
        alarm_id=alarm_id, device="d", machine="pump", raised="2025-01-01T00:00:03Z", raised_at=3,
        complete=True, threshold=0.05, score=0.4, sound_start="2025-01-01T00:00:00Z", rate=RATE,
        seconds=3,
        windows=[
            JudgedWindow(
                start=start, seconds=1, time="2025-01-01T00:00:00Z", validity="valid", score=0.4,
                exceeded=True, whole=True,
            )
            for start in (0, 1, 2)
        ],
    )  # fmt: skip
    (folder / "evidence.json").write_text(record.model_dump_json())
    if feedback:
        (folder / "feedback.json").write_text(
            json.dumps({"verdict": feedback, "time": "2025-01-01T01:00:00Z"})
        )
    return folder


def alarms(path, root):
    bundle = open_bundle(path)
    try:
        return known_alarms(root, bundle)
    finally:
        bundle.close()


def test_sound_that_would_silence_a_known_alarm_is_refused(bundle_path, versions, tmp_path):
    root = tmp_path / "evidence"
    evidence(root, "real", FAULTY_HZ)
    evidence(root, "false", FAULTY_HZ, feedback="normal")
    evidence(root, "other", 1000.0)
    (root / "broken").mkdir()
    (root / "broken" / "evidence.json").write_text("{")
    known, bad = alarms(bundle_path, root)
    assert sorted(alarm.alarm_id for alarm in known) == ["other", "real"]
    assert len(bad) == 1
    for n in range(3):
        write(tmp_path / "sick" / f"s{n}.wav", tone(3, FAULTY_HZ, seed=n))
    with pytest.raises(GrowthError, match=r"silence known alarms: real\b") as refusal:
        add(bundle_path, versions, tmp_path / "sick", alarms=known)
    assert "--force real" in str(refusal.value)
    assert "other" not in str(refusal.value)
    assert versions.numbers() == []
    report = add(bundle_path, versions, tmp_path / "sick", alarms=known, forced=["real"])
    assert [(v.alarm_id, v.before, v.after) for v in report.alarms] == [
        ("other", 3, 3), ("real", 3, 0),
    ]  # fmt: skip
    assert read_manifest(versions.path(1)).growth.forced == ("real",)


def test_an_answered_alarm_joins_by_its_anomalous_windows(bundle_path, versions, tmp_path):
    folder = evidence(tmp_path / "evidence", "false", NEW_HZ, feedback="normal")
    report = add(bundle_path, versions, folder)
    assert report.added == 3
    # Chosen for their scores, they must not lift the threshold.
    assert report.after.value < 0.05
    assert report.after.healthy_windows == 5
    assert not score(versions.path(1), NEW_HZ)


def test_noise_joins_the_gate_and_never_the_bank(bundle_path, versions, new_sound, tmp_path):
    rng = np.random.default_rng(0)
    for n in range(4):
        noise = (0.02 * rng.standard_normal(3 * RATE)).astype(np.float32)
        write(tmp_path / "noise" / f"q{n}.wav", noise)
    bundle = open_bundle(bundle_path)
    healthy = embed_sound(find_sound([new_sound], label="healthy"), bundle)
    quiet = embed_sound(find_sound([tmp_path / "noise"], label="noise"), bundle)
    make_version(bundle, versions, draft_add(bundle, healthy, quiet))
    bundle.close()
    grown = open_bundle(versions.path(1))
    assert {row.source[:1] for row in grown.rows} == {"h", "n"}
    idle = (0.02 * rng.standard_normal((1, RATE))).astype(np.float32)
    assert grown.gate is not None
    assert grown.gate.idle(grown.encoder.encode(idle)).all()
    for hertz in (440, NEW_HZ, FAULTY_HZ):
        assert not grown.gate.idle(grown.encoder.encode(tone(1, hertz, seed=5)[None])).any()
    # Growing on keeps the gate's rows, and fits it to the healthy rows as they then are.
    again = make_version(grown, versions, draft_remove(grown, ["h0.wav"]))
    kept = open_bundle(versions.path(again.version))
    assert kept.gate is not None
    with pytest.raises(GrowthError, match="already"):
        draft_add(kept, healthy, quiet)
    removed = draft_remove(kept, [kept.rows[-1].source, quiet.rows[0].source])
    assert (len(removed.gate_rows), removed.removed) == (15, 5)
    grown.close()
    kept.close()


def test_a_gate_that_would_hush_a_known_alarm_is_refused(bundle_path, versions, tmp_path):
    root = tmp_path / "evidence"
    evidence(root, "real", FAULTY_HZ)
    known, _ = alarms(bundle_path, root)
    for n in range(4):
        write(tmp_path / "idle" / f"i{n}.wav", tone(3, FAULTY_HZ, seed=n))
    bundle = open_bundle(bundle_path)
    quiet = embed_sound(find_sound([tmp_path / "idle"], label="idle"), bundle)
    nothing = embed_sound([], bundle)
    with pytest.raises(GrowthError, match="silence known alarms: real"):
        make_version(bundle, versions, draft_add(bundle, nothing, quiet), alarms=known)
    bundle.close()


def test_remove_takes_recordings_out(bundle_path, versions, new_sound):
    add(bundle_path, versions, new_sound)
    bundle = open_bundle(versions.path(1))
    name = next(row.source for row in bundle.rows if row.source.startswith("n1-"))
    report = make_version(bundle, versions, draft_remove(bundle, [name]))
    assert (report.rows, report.removed) == (20, 5)
    with pytest.raises(GrowthError, match="not in the bank"):
        draft_remove(bundle, ["n1"])
    everything = [row.source for row in bundle.rows]
    with pytest.raises(GrowthError, match="two healthy recordings"):
        make_version(bundle, versions, draft_remove(bundle, everything[1:]))
    bundle.close()


def test_compact_keeps_the_spread_and_every_recording(bundle_path, versions, new_sound):
    add(bundle_path, versions, new_sound)
    bundle = open_bundle(versions.path(1))
    report = make_version(bundle, versions, draft_compact(bundle, 10))
    assert (report.rows, report.removed) == (10, 15)
    kept = {row.group for row in json_rows(versions.path(2))}
    assert kept == {row.group for row in bundle.rows}
    with pytest.raises(GrowthError, match="25 rows"):
        draft_compact(bundle, 25)
    bundle.close()
    assert not score(versions.path(2), NEW_HZ)
    assert score(versions.path(2), FAULTY_HZ)


def json_rows(path):
    bundle = open_bundle(path)
    bundle.close()
    return bundle.rows


def test_old_versions_are_tidied_but_not_what_is_in_use(bundle_path, versions, new_sound):
    add(bundle_path, versions, new_sound)
    for n in range(2, 6):
        shutil.copytree(versions.path(1), versions.path(n))
    versions.use(1)
    for name, age in ((".0006.abandoned", 90_000), (".0007.at_work", 0)):
        (versions.folder / name).mkdir()
        os.utime(versions.folder / name, (time.time() - age,) * 2)
    assert versions.tidy(2) == [2, 3]
    assert not (versions.folder / ".0006.abandoned").exists()
    assert (versions.folder / ".0007.at_work").exists()
    assert versions.numbers() == [1, 4, 5]

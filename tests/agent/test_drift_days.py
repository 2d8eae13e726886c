"""Drift in Hz and dB: what changed, since which day, and nothing more once it is accepted."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace

import httpx
import numpy as np
import pytest
import soundfile
import yaml
from support.bundles import RATE, WINDOW, tone
from support.page import Running, page_config, until

from agent.bundle.manifest import HEALTHY_SPECTRUM
from agent.bundle.seal import seal
from agent.core.records import Validity, Window
from agent.deploy.load import open_bundle
from agent.drift.movement import ComponentMove, FeatureMove, Movement
from agent.drift.service import NO_BAND
from agent.explain.spectrum import measure_healthy
from agent.machine.days import SoundDays

DAY = 86_400.0
FIRST = 1_795_900_000.0  # in the morning of a day


def sound(seed, louder_db=0.0):
    """Noise, with a band at 2 kHz so much louder."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(0.01 * rng.standard_normal(4 * RATE))
    hertz = np.fft.rfftfreq(4 * RATE, 1 / RATE)
    spectrum[(hertz > 1900) & (hertz < 2300)] *= 10 ** (louder_db / 20)
    return np.fft.irfft(spectrum).astype(np.float32)


def window(index, wall, samples):
    return Window(
        index=index, samples=samples, rate=RATE, monotonic=100.0 * index, wall=wall,
        validity=Validity.VALID,
    )  # fmt: skip


@pytest.fixture(scope="module")
def healthy():
    return measure_healthy((sound(seed) for seed in range(12)), RATE)


def heard(days, healthy, first, wall, louder_db):
    for n in range(6):
        samples = sound(100 + first + n, louder_db)
        days.take(window(first + n, wall + 60 * n, samples), healthy)


def test_what_changed_is_told_in_hz_and_db_and_since_when(healthy, tmp_path):
    days = SoundDays(tmp_path / "pump.json")
    heard(days, healthy, 0, FIRST, 0.0)
    assert days.bands() == ()
    assert days.words() == ""
    for n, louder in ((1, 0.0), (2, 9.0), (3, 9.0), (4, 9.0)):
        for again in range(6):
            heard(days, healthy, 100 * n + 6 * again, FIRST + n * DAY, louder)
    (band,) = days.bands()
    assert band.low_hz == pytest.approx(1900, rel=0.12)
    assert band.high_hz == pytest.approx(2300, rel=0.12)
    assert band.decibels == pytest.approx(9.0, abs=0.7)
    assert days.words() == f"1.7-2.5 kHz +9 dB since {days.told()[3][2].day}"
    days.close()
    # A restart remembers the days, and what is accepted is no change any more.
    again = SoundDays(tmp_path / "pump.json")
    heard(again, healthy, 0, FIRST + 5 * DAY, 9.0)
    assert again.words() == days.words()
    again.accept()
    assert (again.bands(), again.words()) == ((), "")
    kept = SoundDays(tmp_path / "pump.json")
    heard(kept, healthy, 0, FIRST + 6 * DAY, 9.0)
    assert kept.bands() == ()
    # What was accepted of one bundle says nothing of another's healthy sound.
    other = replace(healthy, level=healthy.level - 1.0)
    heard(kept, other, 100, FIRST + 7 * DAY, 9.0)
    assert kept.bands()[0].decibels == pytest.approx(10.0, abs=0.7)


def test_a_moved_microphone_is_no_change_of_bands(healthy):
    days = SoundDays(None)
    for n in range(6):
        samples = np.float32(2.0) * sound(50 + n)
        days.take(window(n, FIRST + n, samples * np.float32(0.5)), healthy)
    assert days.bands() == ()


def test_no_number_of_an_embedding_is_told():
    part = ComponentMove(1, 0.5, 0.5, 3.0, 1.1, 1.0)
    nameless = Movement((part,), (FeatureMove("embedding 121", 0.1, ""),), 1.0)
    assert "embedding" not in nameless.sentence()
    named = Movement((part,), (FeatureMove("rms", 1.5, "dB"),), 1.0)
    assert named.sentence().endswith("rms +1.5 dB")
    assert "embedding" not in NO_BAND


@pytest.fixture
def measured(tiny_bundle, tmp_path):
    """The tiny bundle, with a healthy spectrum."""
    folder = tmp_path / "with-spectrum"
    shutil.copytree(tiny_bundle, folder)
    sounds = [tone(WINDOW / RATE, seed=seed) for seed in range(20)]
    np.save(folder / HEALTHY_SPECTRUM, measure_healthy(sounds, RATE).table())
    opened = open_bundle(folder)
    opened.close()
    seal(folder, opened.manifest)
    return folder


@pytest.mark.parametrize("sound_kept", ["keep", "none"])
def test_the_page_has_both_spectra_and_sound_where_sound_may_be_kept(
    measured, tmp_path, sound_kept
):
    path = page_config(tmp_path, measured, [(20, 440)])
    config = yaml.safe_load(path.read_text())
    config["evidence"]["sound"] = sound_kept
    path.write_text(yaml.safe_dump(config))
    with Running(path) as running, httpx.Client(base_url=f"{running.url}/api") as client:
        place = "/machines/pump/drift"
        until(lambda: client.get(f"{place}/spectrum").status_code == 200)
        found = client.get(f"{place}/spectrum").json()
        assert len(found["edges_hz"]) == len(found["healthy"]) + 1 == len(found["spread"]) + 1
        (day,) = found["days"]
        loudest = int(np.argmax(day["levels"]))
        assert found["edges_hz"][loudest] <= 440 <= found["edges_hz"][loudest + 1]
        assert day["levels"][loudest] == pytest.approx(found["healthy"][loudest], abs=1)
        assert found["then_sound"] is False
        assert found["now_sound"] is (sound_kept == "keep")
        now = client.get(f"{place}/now.flac")
        assert client.get(f"{place}/then.flac").status_code == 404
        if sound_kept == "none":
            assert now.status_code == 403
        else:
            samples, rate = soundfile.read(io.BytesIO(now.content))
            assert rate == RATE
            assert len(samples) > RATE / 2
        assert client.get("/machines/fan/drift/spectrum").status_code == 404


def test_a_change_that_came_and_went_is_told_with_its_bands_and_its_time(healthy, tmp_path):
    hour, midnight = 3600.0, FIRST - FIRST % DAY
    days = SoundDays(tmp_path / "pump.json")
    for n, louder in ((3, 0.0), (4, 9.0), (5, 12.0), (6, 0.0)):
        for again in range(6):
            heard(days, healthy, 100 * n + 6 * again, midnight + n * hour + again, louder)
    assert days.bands() == ()
    day = days.told()[3][0].day
    assert days.words() == f"1.7-2.5 kHz +12 dB on {day} from 04:00 to 06:00 UTC, and no more"
    passed = days.passed()
    assert (passed.begin.timestamp(), passed.end.timestamp()) == (
        midnight + 4 * hour, midnight + 6 * hour,
    )  # fmt: skip
    days.close()
    # Over a restart, too; the drift monitor says that in place of "no band stands out".
    again = SoundDays(tmp_path / "pump.json")
    heard(again, healthy, 0, midnight + 7 * hour, 0.0)
    assert again.words() == days.words()
    # What hours tell no more, the picture's days still do.
    for n in range(24):
        heard(again, healthy, 0, midnight + (31 + n) * hour, 0.0)
        again._due = 0.0
    assert again.words() == ""
    found = again.passed()
    assert (found.days, found.begin.date().isoformat()) == (True, day)
    assert found.words().endswith(f"on {day}, and no more")
    # As it sounds now is right: what was before is no change from it.
    again.accept()
    assert (again.passed(), again.words()) == (None, "")


def test_a_stretch_over_midnight_names_both_days(healthy):
    days = SoundDays(None)
    midnight = FIRST - FIRST % DAY
    for n, louder in ((-2, 0.0), (-1, 9.0), (0, 9.0), (1, 0.0)):
        for again in range(6):
            heard(days, healthy, 1000 + 100 * n + 6 * again, midnight + n * 3600 + again, louder)
    assert days.words() == (
        "1.7-2.5 kHz +9 dB on 2026-11-27 from 23:00 to 2026-11-28 01:00 UTC, and no more"
    )

"""An encoder too large for the device is told so at export."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from support.bundles import build_bundle

from agent.bundle.verify import read_manifest
from agent.commands.tune import tune
from agent.core.errors import ConfigError
from agent.tune.measure import Cost
from agent.tune.profile import DeviceProfile, read_profile
from export.fits import Fit, judge_fit

SMALL = Cost(wall_ms=8.0, slow_ms=10.0, cpu_ms=9.0, memory_mb=60.0)
LARGE = Cost(wall_ms=700.0, slow_ms=800.0, cpu_ms=750.0, memory_mb=2600.0)


def test_what_fits_is_said_to_take_what_it_takes():
    fit = Fit(SMALL, 1.0, "board, 4 cores", 8000.0, 5.0)
    assert fit.faults == ()
    assert fit.load == pytest.approx(0.05)
    assert "about 40 ms on board, 4 cores, 5% of the time" in fit.words()


def test_memory_and_time_beyond_the_devices_are_named():
    memory, time = Fit(LARGE, 1.0, "board", 4000.0, 3.0).faults
    assert "2600 MB of memory" in memory
    assert "about 240% of the time on board" in time
    # A longer step between windows makes room.
    assert Fit(LARGE, 10.0, "board", 16000.0, 3.0).faults == ()


def test_without_a_profile_a_small_device_is_thought_of():
    fit = Fit(LARGE, 1.0, "", 4000.0, None)
    memory, time = fit.faults
    assert "a device of 4 GB" in memory
    assert "80% of the time even on this machine" in time
    assert "tune --profile" in fit.words()


def test_the_profile_is_measured_on_the_device_and_read_at_export(tmp_path):
    place = tmp_path / "board.json"
    done = CliRunner().invoke(tune, ["--profile", str(place)], catch_exceptions=False)
    assert done.exit_code == 0
    profile = read_profile(place)
    assert profile.memory_mb > 100
    assert profile.reference_ms > 0
    # Slower by more than any other load on this machine could hide.
    slow = profile.model_copy(update={"reference_ms": 1e6 * profile.reference_ms})
    bundle = build_bundle(tmp_path / "pump")
    fit = judge_fit(bundle, read_manifest(bundle), slow)
    assert fit.times > 1
    assert fit.load > judge_fit(bundle, read_manifest(bundle), profile).load


def test_what_is_no_profile_is_refused_with_what_to_do(tmp_path):
    place = tmp_path / "board.json"
    for text in (None, "{}", json.dumps({"device": "x", "memory_mb": 1})):
        if text is not None:
            place.write_text(text)
        with pytest.raises(ConfigError, match="tune --profile"):
            read_profile(place)
    assert DeviceProfile(device="x", memory_mb=1, reference_ms=1).device == "x"
    done = CliRunner().invoke(tune, [])
    assert done.exit_code == 2
    assert "--profile" in done.output

"""Every container that is read, altered by chance: samples, or an error that names the file.

Files are read in processes of their own with limits. A crash of a library there is a failure here;
in the product it is a message (`agent.capture.guard`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.containers import RATE, SECONDS, containers, damaged

from agent.capture.phone import PHONE_SUFFIXES

TESTS = Path(__file__).parents[1]
# Streams of frames without a length anywhere: nobody can know that they were cut.
ENDLESS = frozenset({"stream.aac", "dvd.ac3", "radio.mp2", "old.wma"})


def own(name: str) -> bool:
    """Whether a container is read by libsndfile."""
    return Path(name).suffix not in PHONE_SUFFIXES


@pytest.fixture(scope="module")
def whole():
    return containers()


def outcomes(folder: Path) -> dict[str, dict]:
    """What became of each file of a folder, read in one process."""
    done = subprocess.run(
        [sys.executable, "-m", "support.read_files", str(folder)],
        capture_output=True, text=True, timeout=560, check=False,
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    last = lines[-1] if lines else {}
    assert done.returncode == 0, f"rc {done.returncode} at {last}: {done.stderr[-800:]}"
    return {line["name"]: line for line in lines if "name" in line}


def put(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def hold(tmp_path: Path, whole: dict[str, bytes], count: int, seed: int) -> None:
    made = {
        f"{n:05}_{name}": (data, done)
        for n, (name, data, done) in enumerate(damaged(whole, count, seed))
    }
    tmp_path.mkdir(exist_ok=True)
    put(tmp_path / "files", {name: data for name, (data, _) in made.items()})
    found = outcomes(tmp_path / "files")
    assert found.keys() == made.keys()
    for name, told in found.items():
        if "error" in told:
            assert name in told["error"], (told, made[name][1])
            assert "Traceback" not in told["error"]
        else:
            assert told["samples"] > 0, (told, made[name][1])


def test_whole_files_give_all_their_sound(tmp_path, whole):
    put(tmp_path / "files", whole)
    for name, told in outcomes(tmp_path / "files").items():
        assert "error" not in told, told
        assert told["note"] == "", told
        # Codecs begin and end with frames of their own.
        assert abs(told["samples"] / RATE - SECONDS) < 0.12, told
        assert name in whole


def test_a_file_that_was_cut_anywhere_is_never_silently_short(tmp_path, whole):
    random = np.random.default_rng(2)
    cut, left = {}, {}
    for name, data in whole.items():
        # Each ffmpeg is a process of its own.
        for n in range(5 if own(name) else 2):
            at = int(random.integers(0, len(data)))
            cut[f"{n}_{name}"] = data[:at]
            left[f"{n}_{name}"] = 1 - at / len(data)
    put(tmp_path / "files", cut)
    found = outcomes(tmp_path / "files")
    assert found.keys() == cut.keys()
    for name, told in found.items():
        if name.split("_", 1)[1] in ENDLESS or "error" in told:
            assert name in told.get("error", name)
            continue
        # What is left out may be a tag, a table, or what a codec adds at its end.
        whole_sound = told["samples"] / RATE > SECONDS * 0.99 - 0.1
        assert whole_sound or told["note"], (told, left[name])


def test_chance_alters_bytes(tmp_path, whole):
    hold(tmp_path, {name: data for name, data in whole.items() if own(name)}, 420, seed=1)
    others = {name: data for name, data in whole.items() if not own(name)}
    if others:
        hold(tmp_path / "others", others, 22, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10, 18))
def test_chance_alters_many_bytes(tmp_path, whole, seed):
    hold(tmp_path, whole, 800, seed)

"""Sealing: what is written is whole, and nothing else is ever in a bundle's place."""

from __future__ import annotations

import hashlib
import json
import os
import sys

import pytest

from agent.bundle import seal as sealing
from agent.bundle.manifest import (
    MANIFEST,
    EncoderInfo,
    Manifest,
    Quantization,
    Threshold,
    TrainedOn,
)
from agent.bundle.seal import new_bundle, seal
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import BundleError
from agent.core.storage import write_atomic, write_json


def manifest() -> Manifest:
    return Manifest(
        auscult_version="0",
        created="2025-01-01T00:00:00+00:00",
        encoder=EncoderInfo(
            kind="small", sample_rate=8000, window_samples=8000, dim=4, precision="int8", opset=18
        ),
        window_seconds=1.0,
        hop_seconds=0.5,
        clip_hop_seconds=0.5,
        scorer=KnnConfig(),
        threshold=Threshold(
            value=0.1,
            false_alarm_rate=0.01,
            clip_value=0.1,
            method="by hand",
            healthy_windows=2,
            healthy_recordings=2,
        ),
        trained_on=TrainedOn(
            machine="fan",
            preset="small",
            seed=0,
            recordings=2,
            seconds=2.0,
            domains={"unknown": 2},
            level_dbfs=(-30.0, -20.0),
            data_sha256="0" * 64,
        ),
        quantization=Quantization(
            mode="none",
            float_bytes=1,
            bytes=1,
            cosine_mean=1.0,
            cosine_min=1.0,
            torch_cosine_min=1.0,
        ),
        files={},
    )


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_seal_records_length_and_digest_of_every_file(tmp_path):
    (tmp_path / "bank.npy").write_bytes(b"x" * 3_000_000)
    (tmp_path / "rows.json").write_bytes(b"")
    done = seal(tmp_path, manifest())
    assert set(done.files) == {"bank.npy", "rows.json"}
    assert done.files["bank.npy"].size == 3_000_000
    assert done.files["bank.npy"].sha256 == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert json.loads((tmp_path / MANIFEST).read_bytes()) == done.model_dump(mode="json")


def test_sealing_again_counts_what_changed(tmp_path):
    (tmp_path / "bank.npy").write_bytes(b"old")
    first = seal(tmp_path, manifest())
    (tmp_path / "bank.npy").write_bytes(b"grown")
    second = seal(tmp_path, first)
    assert MANIFEST not in second.files
    assert second.files["bank.npy"].size == 5


@pytest.mark.parametrize("make", ["link", "folder"])
def test_seal_refuses_what_is_no_plain_file(tmp_path, make):
    if make == "link":
        (tmp_path / "bank.npy").symlink_to("/etc/hostname")
    else:
        (tmp_path / "bank.npy").mkdir()
    with pytest.raises(BundleError, match=r"bank\.npy.*plain file"):
        seal(tmp_path, manifest())
    assert not (tmp_path / MANIFEST).exists()


def test_failed_block_leaves_the_old_bundle_and_no_litter(tmp_path):
    out = tmp_path / "bundle"
    with new_bundle(out) as folder:
        (folder / MANIFEST).write_text("1")

    def interrupted():
        with new_bundle(out) as folder:
            (folder / MANIFEST).write_text("2")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(out) == {MANIFEST: b"1"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("can_swap", [True, False])
def test_new_bundle_replaces_an_old_one(tmp_path, monkeypatch, can_swap):
    if not can_swap:
        monkeypatch.setattr(sealing, "swap_names", lambda one, other: False)
    out = tmp_path / "bundle"
    for text in ("1", "2"):
        with new_bundle(out) as folder:
            (folder / MANIFEST).write_text(text)
            (folder / text).write_text(text)
            if text == "2":
                assert contents(out) == {MANIFEST: b"1", "1": b"1"}
    assert contents(out) == {MANIFEST: b"2", "2": b"2"}
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are swapped on Linux only")
def test_swap_exchanges_two_folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    if not sealing.swap_names(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this file system cannot swap names")
    assert (tmp_path / "a" / "is").read_text() == "b"
    assert (tmp_path / "b" / "is").read_text() == "a"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_bundle_is_not_overwritten(tmp_path, kind):
    out = tmp_path / "precious"
    if kind == "file":
        out.write_text("mine")
    else:
        real = tmp_path / "elsewhere" if kind == "link" else out
        real.mkdir()
        (real / "thesis.txt").write_text("mine")
        if kind == "link":
            out.symlink_to(real)
    with pytest.raises(BundleError, match="will not be overwritten"), new_bundle(out):
        pytest.fail("the block must not start")
    kept = out if kind == "file" else out / "thesis.txt"
    assert kept.read_text() == "mine"


def test_folder_is_readable_by_the_service_user(tmp_path):
    with new_bundle(tmp_path / "bundle") as folder:
        write_json(folder / "rows.json", [])
    assert (tmp_path / "bundle").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bundle" / "rows.json").stat().st_mode & 0o777 == 0o644


def test_write_atomic_keeps_the_old_bytes_when_the_disk_fails(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match="No space left"):
        write_atomic(path, b"new")
    assert contents(tmp_path) == {"manifest.json": b"old"}


def test_json_with_nan_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert list(tmp_path.iterdir()) == []

"""A bundle opens only when every byte of it is as exported."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from support.bundles import FAULTY_HZ, WINDOW, tone

from agent.bundle.manifest import MANIFEST, Manifest, digest_of
from agent.bundle.seal import seal
from agent.bundle.verify import verify_bundle
from agent.core.errors import BundleError
from agent.deploy import load
from agent.deploy.load import open_bundle


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "copy")


def reseal(folder):
    seal(folder, Manifest.model_validate_json((folder / MANIFEST).read_bytes()))


def edit(folder, change):
    data = json.loads((folder / MANIFEST).read_text())
    change(data)
    data["digest"] = digest_of(data)  # as a forger would
    (folder / MANIFEST).write_text(json.dumps(data))


def test_an_opened_bundle_scores_healthy_below_and_faulty_above(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    batch = np.stack([tone(1, seed=9), tone(1, FAULTY_HZ, seed=9)])
    (healthy, faulty), _ = bundle.scorer.score(bundle.encoder.encode(batch))
    assert healthy < bundle.manifest.threshold.value < faulty
    assert len(bundle.rows) == 5
    bundle.close()


@pytest.mark.parametrize("name", ["encoder.onnx", "bank.npy", "rows.npy", "rows.json"])
def test_one_flipped_bit_anywhere_is_refused_before_loading(copy, name, monkeypatch):
    for loader in ("OnnxEncoder", "HealthySet", "build_scorer"):
        monkeypatch.setattr(load, loader, lambda *_, **__: pytest.fail("loaded unverified"))
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("loaded unverified"))
    data = bytearray((copy / name).read_bytes())
    for place in np.linspace(0, len(data) - 1, 20).astype(int):
        altered = bytearray(data)
        altered[place] ^= 1
        (copy / name).write_bytes(altered)
        with pytest.raises(BundleError, match=rf"{name}.*SHA-256"):
            open_bundle(copy)


def test_missing_and_cut_files_are_named(copy):
    data = (copy / "bank.npy").read_bytes()
    (copy / "bank.npy").write_bytes(data[:-4])
    with pytest.raises(BundleError, match=r"bank\.npy: has \d+ bytes where"):
        verify_bundle(copy)
    (copy / "bank.npy").unlink()
    with pytest.raises(BundleError, match=r"bank\.npy: is missing"):
        verify_bundle(copy)


def test_no_bundle_at_all(tmp_path):
    with pytest.raises(BundleError, match="there is no bundle here"):
        open_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "sub/file", "..", ".hidden", "manifest.json"]
)
def test_names_that_lead_out_of_the_folder_are_refused_unread(copy, name):
    (copy.parent / "outside").write_text("x")

    def add(data):
        data["files"][name] = dict(data["files"]["bank.npy"])

    edit(copy, add)
    with pytest.raises(BundleError, match="is not the name of a file in this folder"):
        verify_bundle(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema_version=99), "schema version 99.*[Nn]ewer"),
        (lambda d: d.update(hopp=1), "hopp"),
        (lambda d: d["threshold"].update(value=float("nan")), r"threshold\.value.*nan"),
        (lambda d: d["threshold"].pop("value"), r"threshold\.value"),
        (lambda d: d.update(scorer={"kind": "density_softmax", "spread": float("inf")}), "scorer"),
        (lambda d: d.update(scorer={"kind": "magic"}), "scorer.*mahalanobis.*magic"),
        (lambda d: d["files"].pop("bank.npy"), r"lists no bank\.npy"),
        (lambda d: d.update(window_seconds=3.0), "window_samples"),
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(copy, change, message):
    edit(copy, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00\xff"])
def test_a_manifest_that_is_no_manifest_is_refused(copy, text):
    (copy / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(copy)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("dim", 7, "dim"), ("window_samples", WINDOW // 2, "window_samples")],
)
def test_a_graph_of_other_shapes_than_the_manifest_is_refused(copy, field, value, message):
    def change(data):
        data["encoder"][field] = value
        if field == "window_samples":
            data["window_seconds"] /= 2

    edit(copy, change)
    with pytest.raises(BundleError, match=message):
        open_bundle(copy)


def test_a_pickle_in_place_of_the_bank_is_never_unpickled(copy):
    np.save(copy / "bank.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    reseal(copy)
    with pytest.raises(BundleError, match=r"bank\.npy: is not a NumPy array"):
        open_bundle(copy)


def test_a_bank_with_nan_or_without_rows_is_refused(copy):
    bank = np.load(copy / "bank.npy")
    bank[0, 0] = np.nan
    np.save(copy / "bank.npy", bank)
    reseal(copy)
    with pytest.raises(BundleError, match=r"bank\.npy: should hold finite"):
        open_bundle(copy)
    np.save(copy / "bank.npy", bank[1:])
    reseal(copy)
    with pytest.raises(BundleError, match="not the same number"):
        open_bundle(copy)


def test_files_that_the_manifest_does_not_list_are_left_alone(copy, caplog):
    (copy / "notes.txt").write_text("mine")
    with caplog.at_level("INFO"):
        open_bundle(copy)
    assert "notes.txt" in caplog.text


def test_a_flipped_digit_of_a_threshold_is_refused(copy):
    text = (copy / MANIFEST).read_text()
    data = json.loads(text)
    value = repr(data["threshold"]["value"])
    (copy / MANIFEST).write_text(
        text.replace(value, value[:-1] + ("1" if value[-1] != "1" else "2"))
    )
    with pytest.raises(BundleError, match="not the manifest that was exported"):
        open_bundle(copy)


@pytest.mark.parametrize("name", ["manifest.json", "encoder.onnx", "bank.npy"])
def test_links_are_refused_wherever_they_lead(tiny_bundle, tmp_path, name):
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    (copy / name).rename(tmp_path / name)
    for target in (tmp_path / name, "/dev/zero"):
        (copy / name).symlink_to(target)
        with pytest.raises(BundleError, match="is a link"):
            verify_bundle(copy)
        (copy / name).unlink()

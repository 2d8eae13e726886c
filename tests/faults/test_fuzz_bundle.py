"""Damaged bundles beyond the checksums: files that a forger, or a fault at export, sealed anew."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.bundles import BANDS, tone

from agent.bundle.manifest import BANK, MANIFEST, ROW_CONSTANTS, ROWS, digest_of
from agent.bundle.seal import file_record
from agent.core.errors import AuscultError
from agent.deploy.load import open_bundle

_LONGEST = 5.0  # of this process's own time, seconds
RUNS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([0, -1, 1e308, "0" * 64, "../x", "", "cosine", 10**400, "\ud800"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def copy(tiny_bundle, tmp_path_factory) -> Path:
    return shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("fuzz") / "bundle")


@pytest.fixture(scope="module")
def sound_manifest(tiny_bundle) -> dict:
    return json.loads((tiny_bundle / MANIFEST).read_bytes())


def places(tree, path=()):
    """Every place in a tree of JSON."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()  # fmt: skip
    for key, value in items:
        yield from places(value, (*path, key))


def altered(tree, path, change):
    """The tree with one place changed; a copy."""
    if not path:
        return change(tree)
    new = tree.copy()
    new[path[0]] = altered(tree[path[0]], path[1:], change)
    return new


def open_and_use(folder: Path) -> bool:
    """Whether it opened, and then it works; a refusal is in words, and soon."""
    begun = time.process_time()
    try:
        bundle = open_bundle(folder)
    except AuscultError as fault:
        said = str(fault)
    else:
        windows = bundle.manifest.encoder.window_samples
        vectors = bundle.encoder.encode(np.resize(tone(1), (1, windows)))
        scores, _ = bundle.scorer.score(vectors)
        assert np.isfinite(scores).all()
        bundle.close()
        said = str(folder)
    finally:
        assert time.process_time() - begun < _LONGEST
    assert str(folder) in said
    assert len(said) < 10_000
    return said == str(folder)


@RUNS
@given(st.data())
def test_a_manifest_that_says_other_things_with_the_right_digest(copy, sound_manifest, data):
    tree = sound_manifest
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(places(tree))))
        action = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace" or not path:
            new = data.draw(JSON)
            tree = altered(tree, path, lambda _, new=new: new)
        elif action == "remove":

            def remove(parent, key=path[-1]):
                parent = parent.copy()
                del parent[key]
                return parent

            tree = altered(tree, path[:-1], remove)
        else:
            key, new = data.draw(st.text(max_size=5)), data.draw(JSON)
            tree = altered(
                tree,
                path,
                lambda part, key=key, new=new: (
                    {**part, key: new} if isinstance(part, dict) else new
                ),
            )
        if not isinstance(tree, dict | list):
            break
    if isinstance(tree, dict):
        # What cannot be digested, no exporter could have written either.
        with contextlib.suppress(ValueError, TypeError):
            tree = {**tree, "digest": digest_of(tree)}
    (copy / MANIFEST).write_text(json.dumps(tree))
    open_and_use(copy)


@RUNS
@given(st.binary(max_size=200))
def test_any_bytes_for_a_manifest(copy, data):
    (copy / MANIFEST).write_bytes(data)
    assert not open_and_use(copy)


def array(values) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


ARRAYS = st.sampled_from(
    [
        array(np.zeros((5, BANDS), np.float64)),
        array(np.zeros((0, BANDS), np.float32)),
        array(np.zeros((5, 0), np.float32)),
        array(np.zeros((5, 2), np.float32)),
        array(np.zeros((5, BANDS), np.float32)),
        array(np.full((5, BANDS), np.nan, np.float32)),
        array(np.full((5, BANDS), 3e38, np.float32)),
        array(np.zeros((), np.float32)),
        array(np.array(["a"])),
        array(np.zeros((2, 2), np.float32))[:70],
        # A header that promises more than there is, or than fits any memory.
        array(np.zeros((5, BANDS), np.float32)).replace(b"(5, 16)", b"(9, 16)"),
        array(np.zeros((5, BANDS), np.float32)).replace(b"(5, 16), }  ", b"(5000000000, 16), }"),
        array(np.zeros((5, BANDS), np.float32)).replace(b"'<f4'", b"'|O' "),
        b"PK\x03\x04",
    ]
)


@RUNS
@given(st.data())
def test_files_altered_and_sealed_anew(copy, sound_manifest, data):
    """As if the exporter itself had gone mad: the checksums are right, the contents are not."""
    name = data.draw(st.sampled_from([BANK, ROW_CONSTANTS, ROWS, "encoder.onnx"]))
    whole = (copy / name).read_bytes()
    content = bytearray(whole)
    if name in {BANK, ROW_CONSTANTS} and data.draw(st.booleans()):
        content = bytearray(data.draw(ARRAYS))
    else:
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, max(0, min(len(content), 300) - 1)))
            content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        (copy / name).write_bytes(content)
        record = file_record(copy / name).model_dump()
        tree = {**sound_manifest, "files": {**sound_manifest["files"], name: record}}
        (copy / MANIFEST).write_text(json.dumps({**tree, "digest": digest_of(tree)}))
        open_and_use(copy)
    finally:
        (copy / name).write_bytes(whole)

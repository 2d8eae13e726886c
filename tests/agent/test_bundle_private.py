"""What is opened are the bytes that were verified, and no others."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.bundles import build_bundle

from agent.bank.pending import follow_bank
from agent.bundle.graph import external_files
from agent.bundle.manifest import BANK, ENCODER, ENCODER_DATA, MANIFEST, SIGNATURE
from agent.bundle.private import private_copy, remove_leftovers
from agent.bundle.seal import seal, swap_names
from agent.bundle.sign import load_private, make_keys, sign_folder
from agent.bundle.verify import read_manifest, verify_bundle
from agent.collect.retention import sessions_in_banks
from agent.core.errors import AuscultError, BundleError
from agent.deploy import load as loading
from agent.deploy.load import open_bundle
from agent.deploy.trust import Opening, TrustedBundle


@pytest.fixture
def copy(tiny_bundle, tmp_path):
    return shutil.copytree(tiny_bundle, tmp_path / "pump")


@pytest.fixture
def signed(copy, tmp_path):
    """A signed bundle, and beside it an unsigned one whose threshold nothing exceeds."""
    pytest.importorskip("cryptography")
    make_keys(tmp_path / "site.key", tmp_path / "site.key.pub")
    sign_folder(copy, load_private(tmp_path / "site.key"))
    deaf = shutil.copytree(copy, tmp_path / "deaf")
    manifest = read_manifest(deaf)
    threshold = manifest.threshold.model_copy(update={"value": 1e30, "clip_value": 1e30})
    seal(deaf, manifest.model_copy(update={"threshold": threshold}))
    return copy, deaf


def trusted(site, **opening):
    opening = Opening(public_key=site / "site.key.pub", **opening)
    return TrustedBundle(site / "pump", site / "state", "pump", opening)


def outside_weights(folder, location):
    """Let the graph read one of its weights from elsewhere."""
    model = onnx.load(folder / ENCODER)
    tensor = next(one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT)
    data = numpy_helper.to_array(tensor).astype(np.float32).tobytes()
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    (folder / ENCODER).write_bytes(model.SerializeToString())
    return data


def test_a_folder_exchanged_while_it_is_opened_never_gets_unsigned_bytes_in_use(signed, tmp_path):
    bundle, deaf = signed
    stop = threading.Event()

    def exchange():
        while not stop.is_set():
            assert swap_names(bundle, deaf)
            time.sleep(0.0005)

    thread = threading.Thread(target=exchange)
    thread.start()
    in_use, refused = [], []
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and not (len(in_use) >= 5 and len(refused) >= 5):
            try:
                found = trusted(tmp_path).open_wanted()
            except AuscultError as fault:
                refused.append(str(fault))
                continue
            in_use.append(found.manifest.threshold.value)
            found.close()
    finally:
        stop.set()
        thread.join()
    assert in_use == [0.05] * len(in_use) != []
    assert refused
    assert all("sign" in why for why in refused)


@pytest.mark.parametrize("name", [ENCODER, BANK, "rows.json", MANIFEST])
def test_a_file_changed_after_the_check_is_not_what_is_loaded(signed, tmp_path, monkeypatch, name):
    bundle, deaf = signed
    load = loading.load

    def meanwhile(copy, **options):
        (bundle / name).write_bytes((deaf / name).read_bytes() + b" ")
        (bundle / SIGNATURE).unlink()
        return load(copy, **options)

    monkeypatch.setattr("agent.deploy.trust.load", meanwhile)
    opened = trusted(tmp_path).open_wanted()
    assert opened.manifest.threshold.value == 0.05
    assert opened.path == bundle
    opened.close()


def test_the_copy_that_is_kept_is_of_what_proved_itself(signed, tmp_path):
    bundle, deaf = signed
    one = trusted(tmp_path)
    proved = one.open_wanted()
    swap_names(bundle, deaf)
    one.keep_good(proved)
    assert not (tmp_path / "state/bank/pump/good").exists()
    swap_names(bundle, deaf)
    one.keep_good(proved)
    kept = tmp_path / "state/bank/pump/good"
    assert verify_bundle(kept).digest == proved.manifest.digest
    assert (kept / SIGNATURE).is_file()
    proved.close()


def test_the_copy_is_private_and_gone_afterwards(copy, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    with private_copy(copy) as held:
        assert held.folder.parent == tmp_path / "tmp"
        assert held.folder.stat().st_mode & 0o777 == 0o700
        assert {entry.name for entry in held.folder.iterdir()} == {
            *held.manifest.files, MANIFEST,
        }  # fmt: skip
    assert not list((tmp_path / "tmp").iterdir())
    open_bundle(copy).close()
    assert not list((tmp_path / "tmp").iterdir())


def test_without_room_the_copy_is_made_elsewhere(copy, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    usage = shutil.disk_usage
    monkeypatch.setattr(
        shutil, "disk_usage",
        lambda place: SimpleNamespace(free=0) if "full" in str(place) else usage(place),
    )  # fmt: skip
    with private_copy(copy, tmp_path / "full") as held:
        assert held.folder.parent != tmp_path / "full"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(BundleError, match=r"pump: cannot be copied.*has no room.*Make room"):
        open_bundle(copy)


def test_what_a_killed_process_left_is_removed(tmp_path):
    ended = tmp_path / ".bundle.4194999.abc"
    running = tmp_path / ".bundle.1.abc"
    for folder in (ended, running, tmp_path / "0001"):
        folder.mkdir()
    remove_leftovers(tmp_path)
    assert not ended.exists()
    assert running.exists()
    assert (tmp_path / "0001").exists()


def test_a_fault_found_in_the_copy_names_the_bundle(copy):
    (copy / "bank.npy").write_bytes(b"nothing of the kind")
    seal(copy, read_manifest(copy))
    with pytest.raises(BundleError) as found:
        open_bundle(copy)
    assert str(found.value).startswith(f"{copy / 'bank.npy'}: ")


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/hostname", "secret.bin", "./a", ""])
def test_weights_from_outside_the_bundle_are_refused(copy, location):
    (copy.parent / "secret.bin").write_bytes(outside_weights(copy, location))
    seal(copy, read_manifest(copy))
    with pytest.raises(BundleError, match=r"encoder\.onnx: has weights read from .*no file of the"):
        open_bundle(copy)


def test_weights_that_the_bundle_lists_are_read(copy):
    (copy / ENCODER_DATA).write_bytes(outside_weights(copy, ENCODER_DATA))
    seal(copy, read_manifest(copy))
    opened = open_bundle(copy)
    assert ENCODER_DATA in opened.manifest.files
    opened.close()
    (copy / ENCODER_DATA).write_bytes(bytes((copy / ENCODER_DATA).stat().st_size))
    with pytest.raises(BundleError, match="SHA-256"):
        open_bundle(copy)


def tensor(location):
    found = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
    found.data_location = TensorProto.EXTERNAL
    found.external_data.add(key="location", value=location)
    return found


def hidden(kind, graph, node):
    """Put a tensor where a graph can have one."""
    if kind == "constant":
        node.attribute.append(helper.make_attribute("value", tensor("x")))
    elif kind == "list of tensors":
        attribute = node.attribute.add(name="values", type=onnx.AttributeProto.TENSORS)
        attribute.tensors.append(tensor("x"))
    elif kind == "body of a loop":
        body = helper.make_graph([], "body", [], [], [tensor("x")])
        node.attribute.append(helper.make_attribute("body", body))
    elif kind == "sparse":
        graph.sparse_initializer.add().values.CopyFrom(tensor("x"))
    elif kind == "sparse indices":
        graph.sparse_initializer.add().indices.CopyFrom(tensor("x"))
    else:
        graph.initializer.append(tensor("x"))


@pytest.mark.parametrize(
    "kind",
    ["weight", "constant", "list of tensors", "body of a loop", "sparse", "sparse indices",
     "function", "training", "model in pieces", "key given twice"],
)  # fmt: skip
def test_no_place_of_a_graph_hides_a_file(tmp_path, kind):
    model = helper.make_model(helper.make_graph([], "g", [], []))
    node = model.graph.node.add(op_type="Constant")
    more = b""
    if kind == "function":
        function = model.functions.add(name="f", domain="d")
        hidden("constant", None, function.node.add(op_type="Constant"))
    elif kind == "training":
        hidden("weight", model.training_info.add().algorithm, None)
    elif kind == "model in pieces":
        more = helper.make_model(
            helper.make_graph([], "g", [], [], [tensor("x")])
        ).SerializeToString()
    elif kind == "key given twice":
        entry = tensor("x")
        text = entry.SerializeToString()
        # Protobuf takes the last of a field given twice: first a harmless key, then the real one.
        inner = b"\x0a\x06offset\x0a\x08location\x12\x01x"
        text = text.replace(b"\x0a\x08location\x12\x01x", inner).replace(
            bytes([0x6A, 13]), bytes([0x6A, len(inner)])
        )
        assert TensorProto.FromString(text).external_data[0].key == "location"
        size = len(text)
        more = bytes([0x3A, size + 2, 0x2A, size]) + text
    else:
        hidden(kind, model.graph, node)
    (tmp_path / ENCODER).write_bytes(model.SerializeToString() + more)
    assert external_files(tmp_path / ENCODER) == {"x"}


def test_a_graph_that_has_an_engine_read_from_a_file_is_refused(tmp_path):
    model = helper.make_model(helper.make_graph([], "g", [], []))
    model.graph.node.add(op_type="EPContext", domain="com.microsoft")
    (tmp_path / ENCODER).write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="file of its own"):
        external_files(tmp_path / ENCODER)


@pytest.mark.parametrize(
    "text", [b"\xff" * 40, b"\x3a\x7f", b"\x3b\x00", b"\x39\x00", b"\x3a\xff\xff\xff\xff\x0f"]
)
def test_what_is_no_model_is_refused(tmp_path, text):
    (tmp_path / ENCODER).write_bytes(text)
    with pytest.raises(BundleError, match="is no ONNX model"):
        external_files(tmp_path / ENCODER)


@pytest.mark.parametrize("name", [MANIFEST, SIGNATURE, ENCODER, BANK])
@pytest.mark.parametrize("what", ["link to a device", "pipe", "folder", "link"])
def test_only_plain_files_are_read_and_nothing_is_waited_for(signed, tmp_path, name, what):
    bundle, _ = signed
    (bundle / name).rename(tmp_path / "before")
    place = bundle / name
    if what == "pipe":
        os.mkfifo(place)
    elif what == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/zero" if what == "link to a device" else tmp_path / "before")
    with pytest.raises(BundleError, match=rf"{name}.*(is a link|no plain file|Is a directory)"):
        trusted(tmp_path).open_wanted()


def test_sizes_are_bounded_before_anything_is_read(copy, monkeypatch):
    def claim(size, many=1):
        data = json.loads((copy / MANIFEST).read_text())
        for n in range(many):
            data["files"][f"more{n}.json"] = {"sha256": "0" * 64, "size": size}
        manifest = read_manifest(copy).model_validate(data | {"digest": ""})
        from agent.bundle.manifest import digest_of

        data["digest"] = digest_of(manifest.model_dump(mode="json"))
        (copy / MANIFEST).write_text(json.dumps({**manifest.model_dump(mode="json"), **data}))

    monkeypatch.setattr("agent.bundle.private._take", lambda *_: pytest.fail("read"))
    claim(2**40)
    with pytest.raises(BundleError, match=r"more0\.json: has 1099\.5 GB where"):
        open_bundle(copy)
    claim(1, many=300)
    with pytest.raises(BundleError, match="a bundle has at most 200"):
        open_bundle(copy)
    (copy / MANIFEST).write_bytes(b"[" * (17 * 2**20))
    with pytest.raises(BundleError, match=r"manifest\.json: is far too large"):
        open_bundle(copy)


def test_what_stays_mapped_outlives_the_copy(tmp_path, monkeypatch):
    """A bank too large to hold is read as it is used, from a file that has no name any more."""
    monkeypatch.setattr(loading, "EXACT_UP_TO", 2)
    bundle = build_bundle(tmp_path / "pump")
    opened = open_bundle(bundle)
    assert isinstance(opened.bank.vectors, np.memmap)
    scores, _ = opened.scorer.score(np.asarray(opened.bank.vectors))
    assert np.isfinite(scores).all()
    opened.close()


@pytest.mark.parametrize("target", ["/dev/zero", "elsewhere"])
def test_what_only_looks_at_a_bundles_rows_follows_no_link_either(copy, tmp_path, target):
    (copy / "rows.json").rename(tmp_path / "elsewhere")
    (copy / "rows.json").symlink_to(tmp_path / target)
    folder = tmp_path / "evidence" / "a1"
    folder.mkdir(parents=True)
    (folder / "feedback.json").write_text(
        '{"verdict": "normal", "time": "2025-01-01T00:00:00Z", "accepted": "1"}'
    )
    follow_bank(tmp_path / "evidence", copy)
    assert '"accepted": "1"' in (folder / "feedback.json").read_text()
    assert sessions_in_banks([copy]) == set()

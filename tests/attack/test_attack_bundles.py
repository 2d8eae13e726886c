"""Attacks by whoever can write where bundles lie."""

from __future__ import annotations

import os
import shutil
import threading
import time

import numpy as np
import onnx
import pytest
from attack.target import PATIENCE
from faults.plant import MACHINE
from onnx import TensorProto, numpy_helper
from support.hostile import never_ending

from agent.bundle.manifest import ENCODER, MANIFEST
from agent.bundle.seal import seal, swap_names
from agent.bundle.verify import read_manifest
from agent.deploy.versions import Versions, beside

pytestmark = [pytest.mark.attack, pytest.mark.real_trial]


TARGET = {"name": "bundles"}


@pytest.fixture
def operator(target):
    good = shutil.copytree(target.bundle, target.folder / "safe")
    with target.operator() as found:
        yield found
    target.put(good)
    shutil.rmtree(good)
    target.alarms_go_on()
    assert threshold(target) == 0.05


def threshold(target):
    """Threshold of the bundle in use, from its last event or the start."""
    return target.judged_by()["machines"][MACHINE]["threshold"]


def refused(answer, words):
    assert answer["status"] == "error", answer
    assert words in answer["error"], answer


def test_exchanging_the_folder_while_it_is_opened_gets_nothing_unsigned_in_use(target, operator):
    deaf = target.made(threshold=1e30, notes=("deaf",))
    evil = read_manifest(deaf).digest
    stop = threading.Event()

    def exchange():
        while not stop.is_set():
            swap_names(target.bundle, deaf)
            time.sleep(0.0007)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        answers = [operator.reload() for _ in range(25)]
    finally:
        stop.set()
        thread.join()
    if read_manifest(target.bundle).digest == evil:
        swap_names(target.bundle, deaf)
    assert [one for one in answers if one["status"] == "error" and "sign" in one["error"]]
    told = [event["data"] for event in operator.heard.of(f"{MACHINE}/event")]
    assert not [one for one in told if one.get("event") == "swapped" and one["new_digest"] == evil]


def test_an_unsigned_version_beside_the_signed_bundle_is_not_taken_up(target, operator):
    export = read_manifest(target.bundle)
    versions = Versions(target.bundle, beside(target.bundle))
    with versions.new() as (_, draft):
        shutil.copytree(target.bundle, draft, dirs_exist_ok=True)
        limit = export.threshold.model_copy(update={"value": 1e30, "clip_value": 1e30})
        growth = {
            "version": 1, "origin": export.digest, "parent": export.digest, "change": "nothing",
        }  # fmt: skip
        manifest = export.model_copy(update={"threshold": limit})
        seal(draft, type(export).model_validate({**manifest.model_dump(), "growth": growth}))
    versions.use(1)
    refused(operator.reload(), "sign")
    shutil.rmtree(versions.folder)


def test_weights_outside_the_bundle_are_not_read_though_signed(target, operator):
    made = target.made(counter=300)
    model = onnx.load(made / ENCODER)
    tensor = next(one for one in model.graph.initializer if one.data_type == TensorProto.FLOAT)
    data = numpy_helper.to_array(tensor).astype(np.float32).tobytes()
    (target.folder / "secret.bin").write_bytes(data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../secret.bin"), ("length", str(len(data)))):
        tensor.external_data.add(key=key, value=value)
    (made / ENCODER).write_bytes(model.SerializeToString())
    seal(made, read_manifest(made))
    target.sign(made)
    target.put(made)
    refused(operator.reload(), "secret.bin")


@pytest.mark.parametrize("name", [MANIFEST, ENCODER])
@pytest.mark.parametrize("what", ["endless", "pipe"])
def test_a_link_to_a_device_and_a_pipe_cost_neither_memory_nor_time(target, operator, name, what):
    made = shutil.copytree(target.bundle, target.folder / "linked")
    (made / name).unlink()
    if what == "pipe":
        os.mkfifo(made / name)
    else:
        (made / name).symlink_to("/dev/zero")
    before, kept = target.resident(), target.folder / "kept"
    target.bundle.rename(kept)
    made.rename(target.bundle)
    refused(operator.reload(), name)
    assert target.resident() < before + 100_000_000
    shutil.rmtree(target.bundle)
    kept.rename(target.bundle)


def test_a_graph_without_end_is_refused_while_alarms_go_on(target, operator):
    made = target.made(counter=400)
    never_ending(made)
    target.sign(made)
    target.put(made)
    asked = operator.say("reload", token="operators-token-of-the-attacked")
    target.more(4, PATIENCE)  # while it is tried
    # On a busy machine it has not even had its time within the five times as long that it may take.
    refused(operator.answer("reload", asked), "tried")


def test_an_older_bundle_and_another_machines_are_refused_though_signed(target, operator):
    target.export(counter=100, threshold=0.06)
    refused(operator.reload(), "is older")
    target.export(counter=500, machine="fan", threshold=0.06)
    refused(operator.reload(), "is of machine 'fan'")
    # An operator's word takes it up, and that is told.
    answer = operator.reload(allow_older=True, operator="ada")
    assert answer["status"] == "ok"
    told = operator.heard.wait(
        f"{MACHINE}/event", lambda one: one["type"] == "auscult.bundle.swapped"
    )
    assert "asked for by ada; it is of machine 'fan'" in told["data"]["reason"]
    target.alarms_go_on()
    target.export(counter=500, threshold=0.05)
    assert operator.reload(allow_older=True)["status"] == "ok"

"""The full-size models have the published files' tensors: names and shapes, without their memory."""

from __future__ import annotations

import json

import pytest
import torch

from trainer.zoo.backbone import compare
from trainer.zoo.catalogue import CATALOGUE
from trainer.zoo.families import FAMILIES
from trainer.zoo.identify import skeleton

pytestmark = pytest.mark.shared

FULL = [
    ("beats_iter3", "beats", "base", 90_311_792),
    ("beats_iter3_finetuned", "beats", "base", 90_311_792),
    ("eat_base_fairseq", "eat", "base", None),
    ("eat_base_hf", "eat", "base", 89_972_736),
    ("eat_large_fairseq", "eat", "large", None),
    ("eat_large_hf", "eat", "large", 308_867_072),
    ("m2d_vit_base_80x608p16x16_enconly", "m2d", "80x608p16x16", 85_400_834),
    ("m2d_vit_base_80x1001p16x16_enconly", "m2d", "80x1001p16x16", 85_492_994),
    ("dasheng_base", "dasheng", "base", 85_447_808),
    ("dasheng_06B", "dasheng", "06b", 630_333_568),
    ("dasheng_12B", "dasheng", "12b", 1_134_047_360),
    ("muq_large", "muq", "large", None),
]


def published(shared, name):
    found = json.loads((shared / f"golden/keys/{name}_keys.json").read_text())
    tensors = {
        key: torch.empty(entry["shape"], dtype=getattr(torch, entry["dtype"]), device="meta")
        for key, entry in found["keys"].items()
    }
    return found["meta"], tensors


@pytest.mark.parametrize(("name", "family", "size", "parameters"), FULL)
def test_missing_0_unexpected_0(shared, name, family, size, parameters):
    meta, tensors = published(shared, name)
    kind = FAMILIES[family]
    model = skeleton(kind, kind.resolve(size))
    translation = kind.translate(tensors)
    assert compare(model.state_dict(), translation) == []
    assert translation.unexpected == ()
    assert kind.recognise(tensors)
    assert [f.name for f in FAMILIES.values() if f.recognise(tensors)] == [family]
    own = dict(model.named_parameters())
    if family in {
        "eat",
        "m2d",
    }:  # stored positions and statistics count, though they aren't trained
        own |= {n: b for n, b in model.named_buffers() if n in model.state_dict()}
    count = sum(p.numel() for p in own.values())
    if family == "beats":
        # Weight norm keeps one number a tap beside the kernel, and the encoder no predictor.
        assert count + 128 == parameters
    elif family == "muq":
        # Beside what only pre-training used; rotary frequencies are computed.
        unused = sum(tensors[key].numel() for key in translation.ignored if "pos_conv" in key)
        assert 0 <= meta["encoder_parameters"] - count <= unused + 1024
    elif parameters is not None:
        assert count == parameters
    else:
        assert count == meta["encoder_parameters"]


@pytest.mark.parametrize(("name", "family", "size", "parameters"), FULL[:1] + FULL[6:7])
def test_a_missing_tensor_and_a_wrong_shape_are_told(shared, name, family, size, parameters):
    _, tensors = published(shared, name)
    kind = FAMILIES[family]
    gone = next(key for key in tensors if key.endswith("fc1.bias"))
    bent = next(key for key in tensors if key.endswith("fc2.weight"))
    further = gone.replace(".0.", ".99.")
    del tensors[gone]
    tensors[bent] = torch.empty(3, 4, device="meta")
    faults = compare(
        skeleton(kind, kind.resolve(size)).state_dict(),
        kind.translate(tensors | {further: torch.empty(1, device="meta")}),
    )
    assert len(faults) == 3
    assert "fc1.bias" in faults[0]
    assert "99" in faults[1]
    assert "fc2.weight" in faults[2]


# Read by their own loaders; their keys are not in the shared golden files.
SMALL = {"mn04", "yamnet", "speech_embedding"}


def test_the_catalogue_counts_what_the_files_hold(shared):
    counts = {entry.values for entry in CATALOGUE if entry.family not in SMALL}
    listed = set()
    for path in (shared / "golden/keys").glob("*_keys.json"):
        if "fairseq" not in path.name:  # the catalogue lists the Hugging Face files
            listed.add(json.loads(path.read_text())["meta"]["n_elements"])
    assert counts == listed

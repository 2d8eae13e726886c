"""Files from elsewhere: every published layout is read, everything else refused without running it."""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import zipfile

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pretrained_golden import FILES, M2D_608, Golden, off
from safetensors.torch import load_file, save_file

from trainer.commands.pretrained import pretrained
from trainer.zoo.backbone import CheckpointError
from trainer.zoo.checkpoints import read_checkpoint
from trainer.zoo.identify import check, identify


def tiny_dasheng() -> dict[str, torch.Tensor]:
    """A Dasheng file's tensors, made here: random values under published names."""
    from trainer.zoo.dasheng import TINY, Dasheng

    state = Dasheng(TINY).state_dict()
    return {name.replace("init_bn.", "init_bn.1."): value.clone() for name, value in state.items()}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "dasheng_tiny.pt"
    torch.save({"model": tiny_dasheng(), "config": {"num_heads": 4}}, path)
    return path


class Hostile:
    def __reduce__(self):
        return os.system, ("touch " + os.environ["HOSTILE_MARK"],)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_hostile_file_is_refused_and_nothing_runs(tmp_path, monkeypatch, legacy):
    mark = tmp_path / "ran"
    monkeypatch.setenv("HOSTILE_MARK", str(mark))
    path = tmp_path / "evil.pt"
    torch.save(
        {"model": tiny_dasheng(), "config": Hostile()},
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(CheckpointError, match=r"wants to run '\w+\.system'.*nothing was run"):
        read_checkpoint(path)
    assert not mark.exists()


def test_unknown_classes_are_refused_too(tmp_path):
    path = tmp_path / "odd.pt"
    torch.save({"model": tiny_dasheng(), "args": pathlib.PurePosixPath("x")}, path)
    with pytest.raises(CheckpointError, match="pathlib"):
        read_checkpoint(path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_a_cut_file(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"cut short|damaged|not a checkpoint") as fault:
        read_checkpoint(file)
    assert fault.value.where == str(file)
    assert "Download it again" in fault.value.remedy


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    "content", [b"", b"<html>404</html>", b"\x80\x04garbage", b"PK\x03\x04rest"]
)
def test_what_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("legacy", [False, True])
def test_random_damage_ends_in_our_error_or_in_numbers(tmp_path, legacy):
    path = tmp_path / "damaged.pt"
    small = {name: value for name, value in tiny_dasheng().items() if value.numel() < 200}
    torch.save({"model": small}, path, _use_new_zipfile_serialization=not legacy)
    whole = bytearray(path.read_bytes())
    random, refused = np.random.default_rng(0), 0
    for _ in range(60):
        damaged = whole.copy()
        for place in random.integers(0, min(len(whole), 3000), 4):
            damaged[place] = random.integers(0, 256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
        except CheckpointError:
            refused += 1
    assert refused > 5


def test_a_cut_safetensors_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(tiny_dasheng(), path)
    assert read_checkpoint(path).layout == "safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="safetensors"):
        read_checkpoint(path)


def test_an_archive_is_told_from_a_checkpoint(tmp_path, file):
    path = tmp_path / "m2d.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(file, "folder/checkpoint-300.pth")
    with pytest.raises(CheckpointError, match=r"holds folder/checkpoint-300\.pth") as fault:
        read_checkpoint(path)
    assert "Unpack" in fault.value.remedy


def test_another_model_is_told(tmp_path):
    path = tmp_path / "resnet.pt"
    torch.save({"conv1.weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match=r"no checkpoint of BEATs.*'conv1\.weight'"):
        identify(read_checkpoint(path))


def test_whole_missing_bent_and_not_finite(file):
    report = check(read_checkpoint(file))
    assert (report.identity.family.name, report.identity.size, report.faults) == (
        "dasheng",
        "tiny",
        (),
    )

    def altered(change):
        tensors = tiny_dasheng()
        change(tensors)
        torch.save({"model": tensors}, file)
        return check(read_checkpoint(file)).faults

    # A whole layer gone is no smaller model.
    faults = altered(lambda t: [t.pop(n) for n in list(t) if n.startswith("blocks.2.")])
    assert len(faults) == 1
    assert "12 tensors are missing" in faults[0]
    assert "not (64,)" in altered(lambda t: t.update({"norm.bias": torch.zeros(3)}))[0]
    assert "too many" in altered(lambda t: t.update({"blocks.3.x": torch.zeros(3)}))[0]
    # A head of somebody's own is told, but keeps nobody from using the encoder.
    torch.save({"model": tiny_dasheng() | {"surprise": torch.zeros(3)}}, file)
    report = check(read_checkpoint(file))
    assert (report.unknown, report.faults) == (("surprise",), ())
    assert "not finite" in altered(lambda t: t["norm.bias"].fill_(float("nan")))[0]


def test_hugging_face_prefix(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({f"encoder.{name}": value for name, value in tiny_dasheng().items()}, path)
    assert check(read_checkpoint(path)).faults == ()


def test_command_tells_and_fails(file, tmp_path):
    report = tmp_path / "report.json"
    good = CliRunner().invoke(pretrained, ["check", str(file), "--json", str(report)])
    assert good.exit_code == 0, good.output
    assert "Dasheng tiny" in good.output
    entry = json.loads(report.read_text())["files"][0]
    assert entry["whole"]
    assert entry["encoder"] == "dasheng"
    junk = tmp_path / "junk.pt"
    junk.write_bytes(b"junk")
    bad = CliRunner().invoke(pretrained, ["check", str(junk), str(file)])
    assert bad.exit_code == 1
    assert "Dasheng tiny" in bad.output, "a bad file must not hide the next"


def test_command_notices_a_change_since_the_download(file):
    record = file.with_name(file.name + ".sha256")
    record.write_text("0" * 64 + f"  {file.name}\n")
    changed = CliRunner().invoke(pretrained, ["check", str(file)])
    assert changed.exit_code == 1
    assert "HAS CHANGED" in changed.output


@pytest.mark.shared
@pytest.mark.parametrize("family", sorted(FILES))
@torch.inference_mode()
def test_half_precision_is_accepted(shared, tmp_path, family):
    golden = Golden(shared / "golden")
    source = golden.root / FILES[family]
    checkpoint = read_checkpoint(source)
    half = {
        name: tensor.half() if tensor.is_floating_point() else tensor
        for name, tensor in checkpoint.tensors.items()
    }
    folder = tmp_path / source.parent.name
    folder.mkdir()
    path = folder / "half.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in half.items()}, path)
    if (source.parent / "config.json").exists():
        (folder / "config.json").write_bytes((source.parent / "config.json").read_bytes())
    mine, whole = (
        Golden(tmp_path).model(f"{folder.name}/half.safetensors"),
        golden.model(FILES[family]),
    )
    features = golden.array(f"{family}/features.npy")[:1]
    assert all(p.dtype == torch.float32 for p in mine.parameters())
    difference = off(mine.hidden(features)[-1].grid, whole.hidden(features)[-1].grid)
    assert difference < 0.05  # rounding to eleven bits, no more


@pytest.mark.shared
@torch.inference_mode()
def test_m2ds_full_layout_with_its_namespace(shared, tmp_path):
    golden = Golden(shared / "golden")
    tensors = torch.load(golden.root / M2D_608, weights_only=True)
    # Training's own parts, as a full file holds them.
    full = {**tensors, "decoder_pred.weight": torch.zeros(4, 4), "mask_token": torch.zeros(1, 1, 4)}
    folder = tmp_path / "m2d_vit_base-80x608p16x16-220930-mr7"
    folder.mkdir()
    args = argparse.Namespace(lr=1e-4, model="m2d_vit_base", input_size="80x608")
    torch.save({"model": full, "args": args, "epoch": 300}, folder / "checkpoint-300.pth")
    mine = Golden(tmp_path).model(f"{folder.name}/checkpoint-300.pth")
    features = golden.array("m2d/features.npy")[:1]
    reference = golden.model(M2D_608).hidden(features)[-1].grid
    assert off(mine.hidden(features)[-1].grid, reference) == 0.0
    assert argparse.Namespace not in torch.serialization.get_safe_globals(), "allowed for us alone"


@pytest.mark.shared
@torch.inference_mode()
def test_eats_fine_tuned_fairseq_layout(shared, tmp_path):
    golden = Golden(shared / "golden")
    pretrained_file = torch.load(golden.root / FILES["eat"], weights_only=True)["model"]
    tuned = {
        f"model.{name}": tensor
        for name, tensor in pretrained_file.items()
        if isinstance(tensor, torch.Tensor) and ".decoder." not in name
    }
    tuned |= {"fc_norm.weight": torch.ones(64), "model.head.bias": torch.zeros(527)}
    torch.save({"model": tuned, "cfg": {"model": {}}}, tmp_path / "tuned.pt")
    features = golden.array("eat/features.npy")[:1]
    mine = Golden(tmp_path).model("tuned.pt").hidden(features)[-1].summary
    assert off(mine, golden.array("eat/embedding_cls.npy")[:1]) < 1e-5


@pytest.mark.shared
def test_fairseqs_nested_average_is_not_taken_for_the_model(shared):
    golden = Golden(shared / "golden")
    fairseq = golden.model(FILES["eat"])
    hugging_face = load_file(golden.root / "eat/hf/model.safetensors")
    assert off(fairseq.pre_norm.weight, hugging_face["model.pre_norm.weight"]) == 0.0

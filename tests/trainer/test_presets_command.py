"""`auscult presets` lists what there is, counts what is learnt, and tells one preset in full."""

from __future__ import annotations

import json

from click.testing import CliRunner

from trainer.commands.presets import presets
from trainer.encoders.registry import build_encoder
from trainer.preset import load_preset, preset_names


def run(*arguments, columns: int = 100):
    result = CliRunner().invoke(
        presets, [str(a) for a in arguments], env={"COLUMNS": str(columns)}, catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.output


def test_every_preset_is_listed_within_a_hundred_columns(tmp_path):
    path = tmp_path / "presets.json"
    output = run("--json", path)
    assert max(len(line.rstrip()) for line in output.splitlines()) <= 100
    assert "58.73 / 55.83" in output
    firsts = {line.split()[0] for line in output.splitlines() if line.strip()}
    assert set(preset_names()) <= firsts
    assert sorted(json.loads(path.read_text())["presets"]) == preset_names()


def test_values_are_counted_without_making_them(tmp_path):
    path = tmp_path / "presets.json"
    run("baseline_mse", "dual_path", "knn_dasheng_12b", "--json", path)
    found = json.loads(path.read_text())["presets"]
    for name in ("baseline_mse", "dual_path"):
        encoder = build_encoder(
            load_preset(name).encoder, window_seconds=10.0, weights=None, seed=0
        )
        assert found[name]["parameters"] == sum(p.numel() for p in encoder.parameters())
        assert found[name]["needs"] == []
        assert found[name]["seconds_a_window"] is None
    # Never built here: it weighs 4.5 GB.
    assert 1.0e9 < found["knn_dasheng_12b"]["parameters"] < 1.2e9
    assert found["knn_dasheng_12b"]["needs"] == ["dasheng_12b.pt"]


def test_one_preset_is_told_in_full_and_measured(tmp_path):
    path = tmp_path / "presets.json"
    output = run("baseline_mahala", "--measure", "--json", path)
    told = " ".join(output.split())
    assert "EUSIPCO 2023" in told
    assert "56.51" in told
    assert "one window:" in told
    measured = json.loads(path.read_text())["presets"]["baseline_mahala"]["seconds_a_window"]
    assert 0 < measured < 10

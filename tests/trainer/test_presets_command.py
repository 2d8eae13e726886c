"""`auscult presets` lists what there is, counts what is learnt, and tells one preset in full."""

from __future__ import annotations

import io
import json
import re

import pytest
from click.testing import CliRunner
from rich.console import Console

from trainer.commands.presets import list_presets, presets
from trainer.defaults import needed_weights
from trainer.encoders.registry import build_encoder
from trainer.preset_file import load_preset, preset_names


def run(*arguments, columns: int = 100):
    result = CliRunner().invoke(
        presets, [str(a) for a in arguments], env={"COLUMNS": str(columns)}, catch_exceptions=False
    )
    assert result.exit_code == 0
    return result.stdout


def test_every_preset_is_listed_and_written(tmp_path):
    path = tmp_path / "new" / "presets.json"
    output = run("--json", path)
    assert "58.73 / 55.83" in output
    assert "Times:" not in output
    firsts = {line.split()[0] for line in output.splitlines() if line.strip()}
    assert set(preset_names()) <= firsts
    assert sorted(json.loads(path.read_text())["presets"]) == preset_names()


@pytest.mark.parametrize("columns", [80, 100, 160])
def test_no_name_is_broken_at_any_width(columns):
    chosen = [load_preset(name) for name in preset_names()]
    facts = {
        preset.name: {
            "needs": needed_weights(preset),
            "parameters": 123_456_789,
            "seconds_a_window": 12.345,
        }
        for preset in chosen
    }
    file = io.StringIO()
    list_presets(Console(file=file, width=columns), chosen, facts)
    text = file.getvalue()
    assert max(len(line.rstrip()) for line in text.splitlines()) <= columns
    words = set(re.split(r"[\s;]+", text))
    for preset in chosen:
        assert preset.name in words
        assert {part.kind for part in preset.encoder.each} <= words
    assert {"BEATs_iter3", "m2d_vit_base-80x608p16x16-221006-mr7_enconly"} <= words
    for figure in ("123 M", "12.345", "58.73 / 55.83"):
        assert figure in text


def test_json_alone_goes_to_stdout():
    found = json.loads(run("loudness", "log_mel", "--json", "-"))
    assert sorted(found["presets"]) == ["log_mel", "loudness"]
    assert found["presets"]["loudness"]["needs"] == []


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
    # Whoever reads a time reads what was timed.
    assert "values are random" in told
    written = json.loads(path.read_text())
    assert "values are random" in written["measured"]
    assert 0 < written["presets"]["baseline_mahala"]["seconds_a_window"] < 10


def test_a_preset_of_a_report_tells_its_figures_and_what_is_otherwise():
    output = run("npu_system1", "baseline_mse", columns=120)
    assert "0.5 feat" in output
    for figure in ("72.57", "72.53", "58.72", "67.27", "71.05", "80.0"):
        assert figure in output
    assert "EAT is not trained further" in output
    assert "Baseline MSE on fan" in output
    found = json.loads(run("xju_lora4", "--json", "-"))["presets"]["xju_lora4"]
    assert found["follows"]["number"] == "003"
    assert found["figures"][0]["rows"]["ToyCar"] == [83.74, 69.08, 57.84, 68.64]


def test_the_list_has_the_development_score_that_follows_from_a_reports_cells():
    listed = run()
    # 003 prints it; of 002's EAT it is the harmonic mean of 21 cells.
    for figure in ("62.34 / -", "62.32 / -", "67.27 / -"):
        assert figure in listed

"""Ensembles of presets: what follows from their members, and the models that they share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from agent.config.scorer import FusionConfig
from agent.core.errors import ConfigError
from tests.support.presets import shrunk
from trainer.encoders.registry import build_encoder
from trainer.join import join_runs
from trainer.members import assemble, places, recipes
from trainer.preset import Preset
from trainer.preset_file import load_preset
from trainer.run import RunRecord, load_run, save_run

SECONDS = 2.0


def _write(tmp_path: Path, **sections: object) -> Path:
    data = {"name": "mine", "summary": "x", **sections}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def _runs(preset: Preset, tmp_path: Path) -> dict[str, Path]:
    """A run of each member, of random values that a seed of its own drew."""
    found = {}
    for seed, (name, recipe) in enumerate(recipes(preset).items()):
        encoder = build_encoder(
            recipe.encoder, window_seconds=SECONDS, weights=None, seed=10 * seed
        )
        record = RunRecord(
            auscult_version="0",
            created="2026-01-01T00:00:00+00:00",
            machine="m",
            root=str(tmp_path),
            preset=recipe,
            seed=0,
            recordings=(),
        )
        save_run(tmp_path / name, record, encoder)
        found[name] = tmp_path / name
    return found


def test_models_that_two_members_hold_are_there_once():
    three = load_preset("npu_system3")
    assert list(recipes(three)) == ["fbeats", "lbeats", "feat", "leat", "dual_branch"]
    kinds = [(part.kind, part.size) for part in three.encoder.parts]
    assert kinds == [
        ("beats", ""), ("beats", ""), ("eat", "large"), ("eat", "large"), ("beats", ""),
        ("eat", "large"),
    ]  # fmt: skip
    # The fusion system judges the last layers of LBEATs and LEAT, which stand there once more.
    assert three.encoder.last_of == (1, 3)
    assert isinstance(three.scorer, FusionConfig)
    assert three.scorer.parts[-1].encoder == (6, 7)
    one = load_preset("npu_system1")
    assert [part.layers for part in one.encoder.parts[2:]] == [(12,), (24,)]
    assert one.encoder.last_of == ()


def test_the_joined_encoder_gives_each_members_embedding(tmp_path):
    preset = shrunk(load_preset("npu_system3"))
    runs = _runs(preset, tmp_path)
    join_runs(preset, runs, tmp_path / "joined", seed=0)
    record, joined = load_run(tmp_path / "joined")
    waveform = 0.1 * torch.randn(2, joined.window_samples)
    with torch.no_grad():
        whole = joined(waveform)
        own = {name: load_run(run)[1] for name, run in runs.items()}
        found = {name: encoder(waveform) for name, encoder in own.items()}
    assert whole.shape[1] == joined.dim == joined.columns[-1][1]
    for name, place in places(preset).items():
        start, stop = joined.columns[place[0]][0], joined.columns[place[-1]][1]
        torch.testing.assert_close(whole[:, start:stop], found[name])
    assert isinstance(record.preset.scorer, FusionConfig)
    start, stop = record.preset.scorer.parts[-1].columns
    last = [found[name][:, slice(*own[name].last_columns)] for name in ("lbeats", "leat")]
    torch.testing.assert_close(whole[:, start:stop], torch.cat(last, dim=1))
    assert last[0].shape[1] < found["lbeats"].shape[1]


def test_a_run_of_another_model_is_refused(tmp_path):
    preset = shrunk(load_preset("fusion_system"))
    runs = _runs(preset, tmp_path)
    with pytest.raises(ConfigError, match="another model"):
        join_runs(preset, runs | {"leat": runs["lbeats"]}, tmp_path / "joined", seed=0)


def test_an_ensemble_of_ones_own(tmp_path):
    path = _write(
        tmp_path,
        members=[{"preset": "spectral_shape", "weight": 2}, {"preset": "log_mel"}],
        scorer={"kind": "fusion", "normalize": "z", "combine": "mean"},
        quantization={"mode": "none"},
    )
    preset = load_preset(path)
    assert [part.kind for part in preset.encoder.parts] == ["spectral_shape", "log_mel"]
    assert isinstance(preset.scorer, FusionConfig)
    assert [part.weight for part in preset.scorer.parts] == [2, 1]
    assert preset.training.kind == "frozen"
    # As it lies in a run, it reads as it was.
    again = Preset.model_validate_json(preset.model_dump_json())
    assert again == preset
    assert assemble(again.model_dump(mode="json"), where="x")["scorer"]["parts"]


@pytest.mark.parametrize(
    ("sections", "match"),
    [
        ({"members": [{"preset": "nothing"}]}, "no preset 'nothing'"),
        ({"members": [{"preset": "log_mel", "weight": 0}]}, "weight"),
        ({"members": [{"preset": "log_mel"}], "encoder": {"kind": "log_mel"}}, "follows from"),
        (
            {"members": [{"preset": "auscult_scratch"}, {"preset": "log_mel"}],
             "scorer": {"kind": "fusion"}},
            "fuses scores itself",
        ),
    ],
)  # fmt: skip
def test_members_that_cannot_be(tmp_path, sections, match):
    with pytest.raises(ConfigError, match=match):
        load_preset(_write(tmp_path, **sections))

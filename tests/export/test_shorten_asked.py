"""Forms that somebody asks for by name, and encoders that have none."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from agent.core.errors import ConfigError
from export.commands.shorten import shorten_command
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.preset_file import load_preset
from trainer.run import RunRecord, save_run
from trainer.shorter import Form, asked_forms, forms_of

SECONDS = 2.0
PARTS = (EncoderConfig(kind="sound_views"), EncoderConfig(kind="mn04", level="remove"))
WITHOUT = {
    "mn04": EncoderConfig(kind="mn04"),
    "yamnet": EncoderConfig(kind="yamnet"),
    "speech_embedding": EncoderConfig(kind="speech_embedding"),
    "sound_views": EncoderConfig(kind="sound_views"),
    "dual_path": EncoderConfig(kind="dual_path"),
    "ae": EncoderConfig(kind="ae"),
    "log_mel": EncoderConfig(kind="log_mel"),
    "sound_views, mn04": EncoderConfig(kind="joined", parts=PARTS),
    "dual_path on 2 pieces": EncoderConfig(kind="dual_path", segments=2),
}


def run_of(config, scorer="knn_beats"):
    """What shortening asks of a run's record, and its encoder."""
    preset = load_preset(scorer).model_copy(update={"encoder": config})
    encoder = build_encoder(config, window_seconds=SECONDS, weights=None, seed=0)
    return SimpleNamespace(preset=preset), encoder


def beats(**fields):
    return run_of(EncoderConfig(kind="beats", size="tiny", pooling="mean", **fields))


@pytest.mark.parametrize("name", WITHOUT)
@pytest.mark.parametrize("asked", [(), ("layer2",)])
def test_an_encoder_without_shorter_forms_is_refused_with_what_to_do(name, asked):
    record, encoder = run_of(WITHOUT[name])
    with pytest.raises(ConfigError) as refused:
        asked_forms(record, encoder, asked) if asked else forms_of(record, encoder)
    said = str(refused.value)
    assert "no shorter form" in said
    for part in name.split(", "):
        assert part.partition(" on ")[0] in said
    for way in ("hop: auto", "auscult_scratch", "auscult tune"):
        assert way in said
    assert ("features: block7_balanced" in said) == ("mn04" in name)


@pytest.mark.parametrize("family", ["beats", "eat", "m2d", "dasheng", "muq"])
def test_forms_of_every_transformer_are_ones_that_may_be_asked_for(family):
    size = "tiny_80x608p16x16" if family == "m2d" else "tiny"
    record, encoder = run_of(EncoderConfig(kind=family, size=size))
    forms = forms_of(record, encoder)
    assert asked_forms(record, encoder, [form.name for form in forms]) == forms


def test_a_form_by_name():
    record, encoder = beats()
    asked = ["layer2", "heads1+merge0", "layer2"]
    assert asked_forms(record, encoder, asked) == [Form(last=2), Form(merge_after=0, heads=1)]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("layer", "is no form"),
        ("layer2+layer1", "is no form"),
        ("layer-1", "is no form"),
        ("quick", "is no form"),
        ("layer3", "uses layers up to 3. Give one from layer1 to layer2"),
        ("layer0", "Give one from layer1 to layer2"),
        ("merge3", "leaves no layer that takes the merged tokens. Give one from merge0 to merge2"),
        ("layer2+merge2", "Give one from merge0 to merge1"),
        ("heads4", "has 4 attention heads"),
        ("heads0", "Give one from heads1 to heads3"),
    ],
)
def test_what_an_encoder_has_not_is_refused_with_what_it_has(name, said):
    record, encoder = beats()
    with pytest.raises(ConfigError) as refused:
        asked_forms(record, encoder, [name])
    assert said in str(refused.value)


def test_what_a_recipe_rules_out_is_told():
    record, encoder = beats(merge_after=1)
    with pytest.raises(ConfigError, match="cannot be merged: that is for beats and eat, once"):
        asked_forms(record, encoder, ["merge0"])
    record, encoder = run_of(EncoderConfig(kind="dasheng", size="tiny"))
    with pytest.raises(ConfigError, match="cannot be merged"):
        asked_forms(record, encoder, ["merge1"])
    record, encoder = run_of(EncoderConfig(kind="beats", size="tiny", pooling="attentive"))
    with pytest.raises(ConfigError, match="cannot be cut after a layer"):
        asked_forms(record, encoder, ["layer2"])
    record, encoder = run_of(EncoderConfig(kind="muq", size="tiny"))
    with pytest.raises(ConfigError, match="heads"):
        asked_forms(record, encoder, ["heads1"])
    record, encoder = run_of(
        EncoderConfig(kind="muq", size="tiny", layers=(1,), pooling="attentive")
    )
    with pytest.raises(ConfigError, match=r"MuQ so that it has no shorter form.*hop: auto"):
        forms_of(record, encoder)


def test_the_command_refuses_before_it_writes_or_measures(tmp_path):
    config = EncoderConfig(kind="spectral_shape")
    given, encoder = run_of(config, "spectral_shape")
    record = RunRecord(
        auscult_version="1", created="2026-01-01T00:00:00+00:00", machine="pump",
        root=str(tmp_path), preset=given.preset, seed=0, recordings=(),
    )  # fmt: skip
    save_run(tmp_path / "run", record, encoder)
    out = tmp_path / "forms"
    done = CliRunner().invoke(
        shorten_command, [str(tmp_path / "run"), "--out", str(out), "--form", "layer2"]
    )
    assert isinstance(done.exception, ConfigError)
    assert str(tmp_path / "run") in done.exception.where
    assert "hop: auto" in done.exception.remedy
    assert not out.exists()

"""Who names no preset is given the better one that can be had, and told which and why."""

from __future__ import annotations

from click.testing import CliRunner

from export.commands.evaluate import evaluate
from trainer.defaults import absent_weights, default_preset, needed_weights
from trainer.preset_file import load_preset

(MN04,) = needed_weights(load_preset("auscult_small"))
(BEATS,) = needed_weights(load_preset("auscult"))


def test_the_better_one_that_can_be_had(tmp_path):
    assert default_preset(None)[0] == "auscult_scratch"
    name, why = default_preset(tmp_path)
    assert name == "auscult_scratch"
    assert str(tmp_path) in why
    (tmp_path / MN04).write_bytes(b"x")
    assert default_preset(tmp_path)[0] == "auscult_small"
    assert default_preset(tmp_path / MN04)[0] == "auscult_small"
    assert default_preset(tmp_path / "other.pt")[0] == "auscult_scratch"


def test_a_preset_that_nobody_has_judged_is_named_and_never_taken(tmp_path):
    assert "--preset auscult" not in default_preset(tmp_path)[1]
    (tmp_path / BEATS).write_bytes(b"x")
    name, why = default_preset(tmp_path)
    assert name == "auscult_scratch"
    assert f"{BEATS} is there for --preset auscult" in why
    (tmp_path / MN04).write_bytes(b"x")
    name, why = default_preset(tmp_path)
    assert name == "auscult_small"
    assert "--preset auscult" in why


def test_every_checkpoint_that_is_not_there_is_named(tmp_path):
    preset = load_preset("eat_m2d")
    first, second = needed_weights(preset)
    assert absent_weights(preset, None) == absent_weights(preset, tmp_path) == [first, second]
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / first).write_bytes(b"x")
    assert absent_weights(preset, tmp_path) == [second]


class _EnoughError(Exception):
    """The presets are known: no need to train them."""


def test_evaluate_takes_the_same_and_says_which(tmp_path, monkeypatch):
    taken: list[tuple[str, ...]] = []

    def stop(presets, *_rest):
        taken.append(tuple(presets))
        raise _EnoughError

    monkeypatch.setattr("export.evaluate.choose_systems", stop)
    (tmp_path / MN04).write_bytes(b"x")
    for weights in ([], ["--weights", str(tmp_path)]):
        result = CliRunner().invoke(
            evaluate, [str(tmp_path), *weights], env={"AUSCULT_WEIGHTS": ""}
        )
        assert isinstance(result.exception, _EnoughError)
        assert f"preset {taken[-1][0]} (" in result.output
    assert taken == [("auscult_scratch",), ("auscult_small",)]

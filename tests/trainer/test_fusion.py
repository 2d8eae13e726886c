"""Fusion of finished scores: constructed scores whose best fusion is known, and honest figures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from scipy.stats import rankdata

from agent.bundle.manifest import Row
from agent.calibrate.limits import HealthyScores
from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_density import ValueConfig
from agent.score.comparable import combine as device_combine
from agent.score.comparable import normalizer
from trainer.commands.fuse import fuse as command
from trainer.fusion.combine import combine, comparable
from trainer.fusion.fuse import fuse
from trainer.fusion.healthy import HEALTHY, read_healthy, write_healthy
from trainer.fusion.recipe import recipe
from trainer.fusion.search import search, simplex
from trainer.fusion.systems import ScoredSystem, SectionTable, align, find_systems
from trainer.metrics.auc import MetricsError
from trainer.metrics.files import SectionScores, write_scores
from trainer.metrics.summary import official, summarize
from trainer.preset import Preset

CLIPS = 200


def clip_names(count: int = CLIPS, section: str = "00") -> tuple[list[str], list[str], list[str]]:
    labels = ["normal", "anomaly"] * (count // 2)
    domains = (["source"] * 2 + ["target"] * 2) * (count // 4)
    names = [
        f"section_{section}_{domain}_test_{label}_{i:04}.wav"
        for i, (domain, label) in enumerate(zip(domains, labels, strict=True))
    ]
    return names, labels, domains


def scored(machine: str, scores: np.ndarray, section: str = "00") -> SectionScores:
    names, labels, domains = clip_names(len(scores), section)
    return SectionScores(
        machine, section, tuple(names), tuple(labels), tuple(domains), np.asarray(scores)
    )


def system(name: str, machines: dict[str, np.ndarray], healthy=None) -> ScoredSystem:
    from pathlib import Path

    sections = tuple(scored(machine, scores) for machine, scores in machines.items())
    found = {machine: np.sort(values) for machine, values in (healthy or {}).items()}
    return ScoredSystem(name, Path(name), sections, found)


def noisy(rng, strength: float, machines=("fan", "pump", "valve")) -> dict[str, np.ndarray]:
    anomalous = np.array([label == "anomaly" for label in clip_names()[1]])
    return {m: rng.normal(size=CLIPS) + strength * anomalous for m in machines}


def healthy(rng, machines=("fan", "pump", "valve")) -> dict[str, np.ndarray]:
    return {machine: rng.normal(size=400) for machine in machines}


def test_the_grid_is_the_whole_simplex():
    two = simplex(2, 0.25)
    assert sorted(two[:, 0]) == [0, 0.25, 0.5, 0.75, 1]
    three = simplex(3, 0.5)
    assert {tuple(row) for row in three} == {
        (1, 0, 0),
        (0, 1, 0),
        (0, 0, 1),
        (0.5, 0.5, 0),
        (0.5, 0, 0.5),
        (0, 0.5, 0.5),
    }


def test_weights_that_made_the_scores_are_found_again():
    # Independent Gaussian evidence: the best linear weights are as the strengths, 3 to 1, and one
    # system knows nothing.
    rng = np.random.default_rng(0)
    anomalous = np.array([label == "anomaly" for label in clip_names(4000)[1]])
    names, labels, domains = clip_names(4000)
    scores = rng.normal(size=(3, 4000)) + np.outer([1.5, 0.5, 0.0], anomalous)
    table = SectionTable("fan", "00", tuple(names), tuple(labels), tuple(domains), scores)
    found = search("mean", [table], [scores], step=0.05, repeats=2)
    np.testing.assert_allclose(found.weights, [0.75, 0.25, 0.0], atol=0.1)
    (by_clip,) = found.nested
    assert by_clip.by == "clip"
    assert by_clip.figure == pytest.approx(found.figure, abs=0.02), "with clips enough, no optimism"


def test_a_step_that_no_memory_holds_is_refused():
    names, labels, domains = map(tuple, clip_names())
    table = SectionTable("fan", "00", names, labels, domains, np.zeros((6, len(names))))
    with pytest.raises(MetricsError, match="96560646 sets of weights of 6 systems"):
        search("mean", [table], [table.scores], step=0.01)


def test_the_figure_of_weights_on_other_clips_is_chance_where_the_tuned_one_is_not():
    tuned, by_machine, by_clip = [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        systems = [system(f"s{i}", noisy(rng, 0.0), healthy(rng)) for i in range(4)]
        done = fuse(systems, searching=True, step=0.25, repeats=3, resamples=100, seed=seed)
        assert done.searched is not None
        figures = {nested.by: nested.figure for nested in done.searched.nested}
        assert set(figures) == {"machine", "clip"}
        tuned.append(done.searched.figure)
        by_machine.append(figures["machine"])
        by_clip.append(figures["clip"])
        assert done.total.value == pytest.approx(done.searched.figure), "the official figure"
    assert min(tuned) > 0.505
    assert np.mean(tuned) > 0.52
    assert np.mean(by_machine) == pytest.approx(0.5, abs=0.015)
    assert np.mean(by_clip) == pytest.approx(0.5, abs=0.015)


def test_machines_that_disagree_show_in_what_is_left_out():
    # Each machine is heard by another system: weights tuned on the others are wrong.
    rng = np.random.default_rng(1)
    first = noisy(rng, 2.0, ("fan",)) | noisy(rng, 0.0, ("pump",))
    second = noisy(rng, 0.0, ("fan",)) | noisy(rng, 2.0, ("pump",))
    grounds = healthy(rng)
    done = fuse(
        [system("a", first, grounds), system("b", second, grounds)],
        searching=True,
        resamples=100,
    )
    assert done.searched is not None
    by_machine = done.searched.nested[0]
    assert by_machine.figure < 0.6 < by_machine.equal


def test_sections_of_one_machine_are_left_out_in_turn():
    rng = np.random.default_rng(2)
    systems = []
    for name in "ab":
        sections = tuple(scored("fan", noisy(rng, 1.0)["fan"], number) for number in ("00", "01"))
        systems.append(ScoredSystem(name, None, sections, {"fan": np.sort(rng.normal(size=99))}))
    done = fuse(systems, searching=True, resamples=100)
    assert [nested.by for nested in done.searched.nested] == ["section", "clip"]


def test_too_few_clips_to_halve_are_told():
    names = ("test/normal/a.wav", "test/anomaly/b.wav")
    section = SectionScores("m", "00", names, ("normal", "anomaly"), ("unknown",) * 2, np.ones(2))
    systems = [ScoredSystem(n, None, (section,), {"m": np.arange(9.0)}) for n in "ab"]
    done = fuse(systems, searching=True, resamples=100)
    assert done.searched.nested == ()
    np.testing.assert_array_equal(done.weights, [0.5, 0.5])  # nothing tells them apart


def test_it_fuses_as_the_device_does():
    rng = np.random.default_rng(3)
    systems = [
        system(name, {"fan": rng.gamma(2, scale, CLIPS)}, {"fan": rng.gamma(2, scale, 300)})
        for name, scale in (("a", 0.01), ("b", 40.0))
    ]
    tables = align(systems)
    weights = [0.3, 0.7]
    for method, normalize in (
        ("mean", "z"),
        ("mean", "minmax"),
        ("mean", "quantile"),
        ("rank", "z"),
        ("min", "quantile"),
        ("max", "z"),
    ):
        parts = tuple(Part(scorer=ValueConfig(), weight=weight) for weight in weights)
        config = FusionConfig(parts=parts, normalize=normalize, combine=method)
        expected = device_combine(
            config,
            np.stack(
                [normalizer(config, own.healthy["fan"])(own.sections[0].scores) for own in systems]
            ),
        )
        (scores,) = comparable(systems, tables, method, normalize)
        found = combine(method, scores, np.array([weights]))[0]
        np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=f"{method} {normalize}")


def test_ranks_by_hand():
    first, second = np.array([0.1, 0.4, 0.2, 9.0]), np.array([5.0, 3.0, 3.0, 4.0])
    systems = [system("a", {"m": first}), system("b", {"m": second})]
    (scores,) = comparable(systems, align(systems), "test_rank", "none")
    fused = combine("test_rank", scores, np.array([[0.5, 0.5]]))[0]
    np.testing.assert_allclose(fused * 4, [(1 + 4) / 2, (3 + 1.5) / 2, (2 + 1.5) / 2, (4 + 3) / 2])
    np.testing.assert_allclose(scores[1] * 4, rankdata(second))
    assert recipe(fuse(systems, "test_rank", resamples=100)).text == ""


def test_a_system_without_weight_changes_no_rank():
    rng = np.random.default_rng(4)
    scores = rng.gamma(2.0, size=(2, 50))
    scores[1] += 1e4  # so surprising that its shares underflow
    fused = combine("rank", scores, np.array([[1.0, 0.0], [0.0, 1.0]]))
    np.testing.assert_allclose(fused, scores)
    scores[0] += 3e4
    assert np.isfinite(combine("rank", scores, np.array([[1.0, 0.0]]))).all()


def test_test_scores_normalise_nothing():
    rng = np.random.default_rng(5)
    grounds = healthy(rng)
    strange, other = noisy(rng, 1.0), noisy(rng, 1.0)
    one = fuse([system("a", strange, grounds), system("b", other, grounds)], resamples=100)
    # The second half of the clips changes: the first half's fused scores do not.
    changed = {m: np.concatenate([s[:100], 50 * s[100:]]) for m, s in strange.items()}
    two = fuse([system("a", changed, grounds), system("b", other, grounds)], resamples=100)
    for before, after in zip(one.sections, two.sections, strict=True):
        np.testing.assert_array_equal(before.scores[:100], after.scores[:100])
        assert not np.array_equal(before.scores[100:], after.scores[100:])


def test_healthy_scores_of_windows_become_those_of_recordings(tmp_path):
    rows = [
        Row(source=name, start=start, group=name, domain="source", section="00", attributes={})
        for name in ("a.wav", "b.wav", "c.wav")
        for start in (0.0, 5.0)
    ]
    values = np.array([1, 3, 5, np.nan, 0.25, 0.75], np.float32)
    (path,) = write_healthy(tmp_path, "fan", HealthyScores(values, rows), "mean")
    assert path.name == f"{HEALTHY}_fan_section_00_train.csv"
    assert sorted(path.read_text().splitlines()) == ["a.wav,2.0", "b.wav,5.0", "c.wav,0.5"]
    np.testing.assert_array_equal(read_healthy(tmp_path)["fan"], [0.5, 2.0, 5.0])
    path.write_text("a.wav,2\nb.wav,nan\n")
    with pytest.raises(MetricsError, match=r"line 2.*finite"):
        read_healthy(tmp_path)


def folder(place, name: str, rng, strength: float, *, grounds: bool = True):
    for machine, scores in noisy(rng, strength, ("fan", "pump")).items():
        write_scores(place / name, scored(machine, scores))
        if grounds:
            lines = [f"{i}.wav,{value}" for i, value in enumerate(rng.normal(size=50))]
            file = place / name / f"{HEALTHY}_{machine}_section_00_train.csv"
            file.write_text("\n".join(lines))
    return place / name


def run(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_an_evaluation_is_fused_from_the_command_line(tmp_path):
    rng = np.random.default_rng(6)
    for name, strength in (("spectral_shape", 1.0), ("log_mel", 1.0), ("mine", 0.0)):
        folder(tmp_path / "ev" / "scores", name, rng, strength)
    out = tmp_path / "fused"
    done = run(tmp_path / "ev", "--weights", "search", "--out", out, "--resamples", 100)
    assert done.exit_code == 0, done.output
    about = json.loads((out / "fusion.json").read_text())
    assert about["systems"]["mine"]["weight"] < 0.2
    nested = about["search"]["nested"]["machine"]
    assert nested["figure"] <= about["search"]["figure_on_the_clips_that_chose"]
    assert nested["figure"] > max(nested["alone"].values()), "two that know are better than one"
    assert "chosen by these very clips" in done.output
    (again,) = find_systems([f"x={out}", f"y={out}"])[:1]
    assert official(summarize(again.sections)).value == pytest.approx(about["fused"]["official"])


def test_the_section_for_a_preset_is_one(tmp_path):
    rng = np.random.default_rng(7)
    for name in ("spectral_shape", "log_mel__int8"):
        folder(tmp_path / "ev" / "scores", name, rng, 1.0)
    out = tmp_path / "fused"
    run(tmp_path / "ev", "--weights", "3,1", "--out", out, "--resamples", 100)
    sections = yaml.safe_load((out / "fusion.yaml").read_text())
    preset = Preset.model_validate({"name": "fused", "summary": "for tests", **sections})
    assert [part.kind for part in preset.encoder.parts] == ["log_mel", "spectral_shape"]
    assert isinstance(preset.scorer, FusionConfig)
    assert [part.weight for part in preset.scorer.parts] == [0.75, 0.25]
    assert preset.scorer.normalize == "z"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("{a}",), "at least two systems"),
        (("{a}", "{a}"), "second system is called 'a'"),
        (("{a}", "{b}", "--weights", "1,2,3"), "do not fit 2 systems"),
        (("{a}", "{b}", "--method", "min", "--weights", "search"), "heeds no weights"),
        (("{a}", "{bare}"), "has no healthy scores of fan"),
        (("{a}", "{short}"), "has no score for section_00_source_test_normal_0000"),
        (("{a}", "{one}"), "has no scores of pump"),
    ],
)
def test_what_does_not_fit_together_is_named(tmp_path, arguments, says):
    rng = np.random.default_rng(8)
    places = {name: folder(tmp_path, name, rng, 1.0) for name in ("a", "b", "short", "one")}
    places["bare"] = folder(tmp_path, "bare", rng, 1.0, grounds=False)
    file = places["short"] / "anomaly_score_fan_section_00_test.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[1:]))
    (places["one"] / "anomaly_score_pump_section_00_test.csv").unlink()
    with pytest.raises(MetricsError, match=says):
        run(*[argument.format(**places) for argument in arguments])


def test_ranks_within_the_test_set_are_marked_and_need_no_healthy_scores(tmp_path):
    rng = np.random.default_rng(9)
    places = [folder(tmp_path, name, rng, 1.0, grounds=False) for name in "ab"]
    done = run(*places, "--method", "test-rank", "--resamples", 100)
    assert done.exit_code == 0
    assert "offline only" in done.output
    assert "no device can" in done.output
    assert "for a preset" not in done.output

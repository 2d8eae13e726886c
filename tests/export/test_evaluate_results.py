"""Means over seeds, tables and JSON of an evaluation, from made-up scores."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from export.figures import draw_machine
from export.results import Evaluation, Failure, Outcome, System, Unscored
from export.results_json import evaluation_json
from export.tables import notes, results_tables
from trainer.metrics import SectionScores, harmonic_mean, official, summarize
from trainer.preset import Preset

PRESET = Preset.model_validate(
    {"name": "real", "summary": "a system", "encoder": {"kind": "dual_path"}}
)
FLOOR = Preset.model_validate(
    {"name": "low", "summary": "a floor", "floor": True, "encoder": {"kind": "loudness"}}
)
REAL = System("real", PRESET, "int8", (0, 1))
LOW = System("low", FLOOR, "int8", (0,))


def section(
    machine: str, seed: int, *, domains: tuple[str, str] = ("source", "target")
) -> SectionScores:
    rng = np.random.default_rng(seed)
    labels = np.repeat(["normal", "anomaly"], 20)
    scores = rng.normal(size=40) + (labels == "anomaly")
    return SectionScores(
        machine=machine,
        section="00",
        names=tuple(f"{i}.wav" for i in range(40)),
        labels=tuple(map(str, labels)),
        domains=tuple(np.tile(domains, 20).tolist()),
        scores=scores,
        decisions=scores > 1.5,
    )


def outcome(machine: str, seed: int, **more) -> Outcome:
    own = section(machine, seed, **more)
    (figures,) = summarize([own], resamples=200)
    return Outcome(figures=figures, sections=(own,), threshold=1.5, precision="int8")


@pytest.fixture
def evaluation() -> Evaluation:
    found = Evaluation((REAL, LOW), ("fan", "pump"))
    for machine in found.machines:
        for system in found.systems:
            for seed in system.seeds:
                mixed = seed + 10 * len(machine) + (100 if system is LOW else 0)
                found.outcomes[system.name, machine, seed] = outcome(machine, mixed)
    return found


def printed(evaluation: Evaluation, width: int) -> str:
    text = io.StringIO()
    console = Console(file=text, width=width)
    for table in results_tables(evaluation, width):
        console.print(table)
    return text.getvalue()


def test_figures_are_means_over_seeds_with_their_spread(evaluation: Evaluation) -> None:
    own = [evaluation.outcomes["real", "fan", seed].figures for seed in (0, 1)]
    found = evaluation.figure(REAL, "fan", "auc_source")
    values = [figures.auc_source for figures in own]
    assert found.mean == pytest.approx(np.mean(values))
    assert found.spread == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2))
    hmean = evaluation.figure(REAL, "fan", "hmean")
    assert hmean.interval is not None
    assert hmean.interval[0] < hmean.mean < hmean.interval[1]
    # Averaging systems of independent errors steadies the figure: narrower than a single seed's.
    single = own[0].intervals["hmean"]
    assert hmean.interval[1] - hmean.interval[0] < single[1] - single[0]
    assert evaluation.figure(LOW, "fan", "hmean").spread is None


def test_official_is_one_mean_over_all_machines_then_over_seeds(evaluation: Evaluation) -> None:
    by_seed = []
    for seed in (0, 1):
        figures = [evaluation.outcomes["real", m, seed].figures for m in evaluation.machines]
        areas = [a for f in figures for a in (f.auc_source, f.auc_target, f.pauc)]
        by_seed.append(harmonic_mean(areas))
        assert official(figures).value == pytest.approx(by_seed[-1])
    assert evaluation.official(REAL).mean == pytest.approx(np.mean(by_seed))


def test_json_keeps_to_its_promise(evaluation: Evaluation) -> None:
    evaluation.failures.append(Failure("saw", "", "has no test recordings"))
    found = json.loads(json.dumps(evaluation_json(evaluation, {"data": "here"}), allow_nan=False))
    assert list(found["presets"]) == ["real", "low"]
    for name, system in (("real", REAL), ("low", LOW)):
        part = found["presets"][name]
        assert part["official"] == evaluation.official(system).mean
        assert part["floor"] is (name == "low")
        for machine in ("fan", "pump"):
            for figure in ("auc_source", "auc_target", "pauc", "hmean"):
                expected = evaluation.figure(system, machine, figure).mean
                assert part["machines"][machine][figure] == expected
            assert len(part["machines"][machine]["interval"]) == 2
    assert set(found["presets"]["real"]["machines"]["fan"]["seeds"]) == {"0", "1"}
    assert found["failures"] == [
        {"machine": "saw", "preset": "", "reason": "has no test recordings"}
    ]


def test_table_has_machines_in_rows_the_official_score_below_and_floors_last(
    evaluation: Evaluation,
) -> None:
    text = printed(evaluation, 140)
    heading, *rows = [line for line in text.splitlines() if line.strip("┏┳┓━┡╇┩├┼┤─└┴┘")]
    assert heading.index("real, 2 seeds") < heading.index("low (floor)")
    assert [row.split()[1] for row in rows[1:]] == ["fan", "pump", "all"]
    total = evaluation.official(REAL)
    assert f"{100 * total.mean:.1f}±{100 * total.spread:.1f}" in rows[-1]
    mean = evaluation.figure(LOW, "pump", "auc_target").mean
    assert f"{100 * mean:.1f}" in rows[2]
    assert max(map(len, text.splitlines())) <= 140


def test_a_table_too_wide_goes_on_below(evaluation: Evaluation) -> None:
    text = printed(evaluation, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert text.count("all ") == 2
    assert text.index("real") < text.index("low (floor)")
    assert "…" not in text


def test_a_machine_that_failed_is_left_out_and_said_so(evaluation: Evaluation) -> None:
    del evaluation.outcomes["real", "pump", 1]
    text = printed(evaluation, 140)
    assert "failed" in next(line for line in text.splitlines() if "pump" in line)
    assert evaluation.complete(REAL) == ["fan"]
    assert any("1 of 2 machines" in note for note in notes(evaluation))
    only = [evaluation.outcomes["real", "fan", seed].figures.hmean for seed in (0, 1)]
    assert evaluation.official(REAL).mean == pytest.approx(np.mean(only))


def test_notes_tell_what_is_missing() -> None:
    found = Evaluation((LOW,), ("mill",))
    own = outcome("mill", 3, domains=("unknown", "unknown"))
    gaps = (Unscored("a.wav", "digital silence"),)
    found.outcomes["low", "mill", 0] = Outcome(own.figures, own.sections, 1.5, "int8", gaps)
    said = "\n".join(notes(found))
    assert "a.wav: digital silence" in said
    assert "no domains" in said
    assert "too narrow" not in said
    assert own.figures.auc_source == own.figures.auc_target


def test_an_absent_domain_is_a_dash(evaluation: Evaluation) -> None:
    for seed in (0, 1):
        evaluation.outcomes["real", "fan", seed] = outcome(
            "fan", seed, domains=("source", "source")
        )
    row = next(line for line in printed(evaluation, 140).splitlines() if "fan" in line)
    assert " - " in row
    found = evaluation_json(evaluation, {})["presets"]["real"]["machines"]["fan"]
    assert found["auc_target"] is None


def test_pictures_are_drawn_of_machines_with_figures(
    evaluation: Evaluation, tmp_path: Path
) -> None:
    path = draw_machine(evaluation, "fan", tmp_path)
    assert path is not None
    assert path.read_bytes().startswith(b"\x89PNG")
    assert draw_machine(Evaluation((LOW,), ("fan",)), "fan", tmp_path) is None


def test_a_picture_bears_equal_scores_and_a_far_threshold(tmp_path: Path) -> None:
    own = section("fan", 0)
    flat = SectionScores(own.machine, own.section, own.names, own.labels, own.domains, np.ones(40))
    (figures,) = summarize([flat], resamples=100)
    found = Evaluation((LOW,), ("fan",))
    found.outcomes["low", "fan", 0] = Outcome(figures, (flat,), 1e9, "int8")
    assert draw_machine(found, "fan", tmp_path) is not None


def test_a_system_that_ties_with_a_floor_does_not_beat_it():
    same = outcome("fan", 3)
    real, low = System("real", PRESET, "int8", (0,)), LOW
    found = Evaluation((real, low), ("fan",), {("real", "fan", 0): same, ("low", "fan", 0): same})
    assert not found.beats_floors(real)
    found.outcomes["low", "fan", 0] = outcome("fan", 4)
    better = max(found.systems, key=lambda s: found.official(s).mean)
    assert found.beats_floors(real) == (better is real)
    assert not found.beats_floors(low)

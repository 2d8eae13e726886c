"""Published figures beside ours: only of the data they are of, every cell, with the difference."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.recordings.model import Machine, Recording
from export.published import beside, beside_json, beside_rows, beside_table
from export.results import Evaluation, Outcome, System
from trainer.metrics.files import SectionScores
from trainer.metrics.summary import summarize
from trainer.preset_file import load_preset
from trainer.published.dataset import likeness
from trainer.published.records import MACHINES, cells_of


def _machine(name: str, *, train: int = 1000, extra: str = "noise") -> Machine:
    root = Path("/data") / name
    found = [
        Recording(root / f"train/{i}.wav", name, "normal", None, "00", domain)
        for domain, count in (("source", train - 10), ("target", 10))
        for i in range(count)
    ]
    found += [Recording(root / f"s/{i}.wav", name, extra, None, "00") for i in range(100)]
    for label in ("normal", "anomaly"):
        for domain in ("source", "target"):
            found += [
                Recording(root / f"test/{label}{domain}{i}.wav", name, "test", label, "00", domain)
                for i in range(50)
            ]
    return Machine(name, root, tuple(found))


def _section(name: str, seed: int) -> SectionScores:
    random = np.random.default_rng(seed)
    labels = ["normal"] * 100 + ["anomaly"] * 100
    domains = (["source"] * 50 + ["target"] * 50) * 2
    scores = random.standard_normal(200) + np.array([0.0] * 100 + [0.7] * 100)
    names = tuple(f"{i}.wav" for i in range(200))
    return SectionScores(name, "00", names, tuple(labels), tuple(domains), scores)


def _evaluation(preset: str, machines: list[str]) -> tuple[Evaluation, System]:
    system = System(preset, load_preset(preset), "int8", (0,))
    found = Evaluation((system,), tuple(machines))
    for place, name in enumerate(machines):
        section = _section(name, place)
        (figures,) = summarize([section], resamples=20)
        found.outcomes[preset, name, 0] = Outcome(figures, (section,), 0.5, "int8")
    return found, system


def test_the_challenges_data_is_known_by_names_and_layout():
    machines = [_machine(name) for name in MACHINES]
    assert likeness(machines).machines == MACHINES
    assert not likeness(machines).remark
    # Years before have the same machine types, and nothing supplemental.
    bare = [
        replace(m, recordings=tuple(r for r in m.recordings if r.role != "noise")) for m in machines
    ]
    assert likeness(bare).machines == ()
    assert likeness([_machine("pump7")]).machines == ()
    few = likeness([_machine("fan", train=60, extra="clean"), _machine("pump7")])
    assert few.machines == ("fan",)
    assert "60 training recordings for 1000" in few.remark


def test_every_published_cell_stands_beside_ours():
    names = list(MACHINES)
    evaluation, system = _evaluation("xju_lora4", names)
    found, remark = beside(evaluation, [_machine(name) for name in names])
    assert not remark
    (one,) = found
    assert len(one.cells) == len(cells_of("xju_lora4")) == 32
    fan = next(c for c in one.cells if (c.machine, c.figure) == ("fan", "auc_target"))
    ours = 100 * evaluation.outcomes["xju_lora4", "fan", 0].figures.auc_target
    assert fan.published == 41.86
    assert fan.ours == pytest.approx(ours)
    assert fan.difference == pytest.approx(ours - 41.86)
    total = one.cells[-1]
    assert (total.machine, total.figure, total.published) == ("all", "hmean", 62.34)
    assert total.ours == pytest.approx(100 * evaluation.official(system).mean)
    rows = list(one.rows())
    assert [row[0] for row in rows] == [*MACHINES, "all"]
    assert f"{ours:5.2f}  41.86 {ours - 41.86:+6.2f}" == rows[3][2]
    headings, long = beside_rows(found)
    assert len(long) == 32
    assert len(headings) == len(long[0])
    cells = beside_json(found, remark)["published"]["cells"]
    assert {"machine": "fan", "figure": "auc_target"}.items() <= cells[13].items()
    assert beside_table(one).row_count == 8


def test_some_machines_alone_have_no_summary():
    evaluation, _ = _evaluation("baseline_mse", ["fan", "valve"])
    found, _ = beside(evaluation, [_machine("fan"), _machine("valve")])
    assert [one.report for one in found] == ["002", "004"]
    assert [one.machines for one in found] == [("fan", "valve")] * 2
    evaluation, _ = _evaluation("npu_system1", ["fan"])
    (one,), _ = beside(evaluation, [_machine("fan")])
    assert [cell.ours for cell in one.cells] == [None] * 4
    assert one.cells[0].published == 72.57


def test_other_data_and_other_presets_have_nothing_beside_them():
    evaluation, _ = _evaluation("xju_lora4", ["pump7"])
    assert beside(evaluation, [_machine("pump7")]) == ([], "")
    evaluation, _ = _evaluation("auscult_scratch", ["fan"])
    assert beside(evaluation, [_machine("fan", train=30)]) == ([], "")
    assert beside_json([], "") == {}

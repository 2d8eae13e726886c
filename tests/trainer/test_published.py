"""The reports' figures and settings as data: held against the presets, themselves and the texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from trainer.metrics.auc import harmonic_mean
from trainer.preset_file import load_preset, preset_names
from trainer.published.follow import report_info
from trainer.published.records import (
    ALL,
    MACHINES,
    PublishedTable,
    cells_of,
    find_report,
    load_reports,
    reports_of,
)

PRESETS = Path(__file__).parents[2] / "configs" / "presets"
SETTINGS = [
    (number, preset, path, value)
    for number, report in load_reports().items()
    for preset, settings in report.settings.items()
    for path, value in settings.items()
]


def _at(data: Any, path: str) -> Any:
    for name in path.split("."):
        data = data[int(name)] if name.isdigit() else data[name]
    return data


@pytest.mark.parametrize(("number", "preset", "path", "value"), SETTINGS)
def test_a_presets_setting_is_its_reports(number, preset, path, value):
    data = load_preset(preset).model_dump(mode="json")
    assert _at(data, path) == value, f"report {number}"


@pytest.mark.parametrize(
    ("preset", "path", "value"),
    [
        ("lbeats", "training.learning_rate", 0.0002),
        ("xju_lora4", "training.epochs", 30),
        ("npu_system1", "members.2.weight", 0.4),
    ],
)
def test_the_numbers_stand_in_the_files_themselves(preset, path, value):
    """Not only in defaults: a changed default must not change a reproduction."""
    data = yaml.safe_load((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"))
    assert _at(data, path) == value


def test_every_preset_of_a_report_says_so_and_no_other():
    said = {name: load_preset(name).report for name in preset_names()}
    for number, report in load_reports().items():
        for name in report.presets:
            # The official baselines are in two reports' tables and follow neither.
            if not name.startswith("baseline_"):
                assert said[name] is not None, name
                assert said[name].number == number, name
    for name, own in said.items():
        if own is not None:
            assert name in find_report(own.number).presets
            assert own.number in reports_of(name)


def test_ensembles_have_the_coefficients_of_table_2():
    report = find_report("1")
    table = report.tables[1]
    presets = {s.name: s.preset for s in report.tables[0].systems}
    for system in table.systems:
        preset = load_preset(system.preset)
        weights = {member.preset: member.weight for member in preset.members}
        expected = {
            presets[name]: weight
            for name, weight in zip(table.members, system.weights, strict=True)
            if weight
        }
        assert weights == expected
        assert sum(system.weights) == pytest.approx(1.0)


def _means(table: PublishedTable) -> dict[str, dict[str, float]]:
    """Of each system and figure the harmonic mean over the machines, per cent."""
    return {
        system.name: {
            figure: harmonic_mean(system.rows[machine][place] for machine in MACHINES)
            for place, figure in enumerate(table.figures)
        }
        for system in table.systems
    }


def test_summaries_that_the_reports_print_follow_from_their_rows_where_they_do():
    for number, which in (("001", 0), ("003", 0)):
        table = find_report(number).tables[which]
        for system in table.systems:
            for place, figure in enumerate(table.figures):
                assert _means(table)[system.name][figure] == pytest.approx(
                    system.rows[ALL][place], abs=0.015
                ), (number, system.name, figure)
    three = find_report("001").tables[2]
    for system in three.systems:
        *areas, hmean = system.rows[ALL]
        assert harmonic_mean(areas) == pytest.approx(hmean, abs=0.01)


def test_the_contradictions_that_the_notes_tell_are_in_the_figures():
    table = find_report("000").tables[0]
    first = table.systems[0]
    assert first.rows[ALL] == first.rows["bearing"]
    assert _means(table)["System1"]["auc_target"] == pytest.approx(48.75, abs=0.01)
    every = harmonic_mean(v for m in MACHINES for v in first.rows[m])
    assert every == pytest.approx(54.74, abs=0.01)
    values = [v for system in table.systems for m in MACHINES for v in system.rows[m]]
    assert values.count(60.16) == 6
    two, four = find_report("002").tables[0], find_report("004").tables[0]
    for ours, theirs in (("Baseline MSE", "Baseline_mse"), ("Baseline MAHALA", "Baseline_MAHALA")):
        one = next(s for s in two.systems if s.name == ours)
        other = next(s for s in four.systems if s.name == theirs)
        apart = {
            (machine, place)
            for machine in MACHINES
            for place in range(3)
            if abs(one.rows[machine][place] - other.rows[machine][place]) > 0.06
        }
        assert apart == ({("fan", 0)} if ours == "Baseline MSE" else set())


def _whole(table: PublishedTable) -> dict[str, float]:
    """Harmonic mean of each system over all figures of all machines, per cent."""
    return {s.name: harmonic_mean(v for m in MACHINES for v in s.rows[m]) for s in table.systems}


def test_what_reports_002_and_004_say_of_their_tables():
    """Claims of the reports that hold by their own figures, and those that do not."""
    (two,) = find_report("002").tables
    encoders = {k: v for k, v in _whole(two).items() if not k.startswith("Baseline")}
    assert max(encoders, key=encoders.__getitem__) == "EAT"
    assert encoders["EAT"] == pytest.approx(62.32, abs=0.01)
    assert min(encoders, key=encoders.__getitem__) == "MuQ"
    own = {s.name: s.rows for s in two.systems if s.name in encoders}
    best = {m: max(own, key=lambda name: harmonic_mean(own[name][m])) for m in MACHINES}
    assert [m for m in MACHINES if best[m] == "Dasheng 12B"] == ["gearbox"]
    four = _whole(find_report("004").tables[0])
    assert max(four["CNN-DS"], four["CNN-DtMM"], four["ACAE"]) < min(
        four["Baseline_mse"], four["Baseline_MAHALA"]
    )


def test_the_trained_values_of_lbeats_and_leat():
    """What the notes say of the adapters' number, in millions: rank * (in + out) each."""
    single = {s.name: s for s in find_report("001").tables[0].systems}
    lbeats, leat = (3 * blocks * 64 * 2 * width / 1e6 for blocks, width in ((12, 768), (24, 1024)))
    assert lbeats == pytest.approx(3.54, abs=0.005)
    classes = (single["LBEATs"].millions[1] - lbeats) * 1e6 / 768
    assert 45 < classes < 62
    assert leat == pytest.approx(9.44, abs=0.005)
    assert single["LEAT"].millions[1] > 6 * leat


def test_members_deviations_are_told_with_an_ensembles():
    told = report_info(load_preset("npu_system1"))
    assert told is not None
    assert told.title.startswith("Fusion system")
    assert any(
        text.startswith("feat, leat: EAT is not trained further") for text in told.deviations
    )
    assert report_info(load_preset("auscult_small")) is None


def test_cells_of_a_preset():
    cells = cells_of("baseline_mahala")
    assert {cell.report for cell in cells} == {"002", "004"}
    assert len(cells) == 2 * 3 * len(MACHINES)
    assert len(cells_of("baseline_mahala", "4")) == 3 * len(MACHINES)
    assert not cells_of("auscult_small")


# --- against the texts -----------------------------------------------------------------------

NUMBER = re.compile(r"\d+[. ]\d+|\d+\.?\d*")


def _numbers(line: str) -> list[float]:
    return [float(text.replace(" ", ".")) for text in NUMBER.findall(line)]


def _rows(text: str, head: str, columns: int) -> dict[str, list[list[float]]]:
    """Figures below a table's head: machine (lower case), a list a line."""
    found: dict[str, list[list[float]]] = {}
    machine = ""
    for line in text[text.index(head) :].splitlines()[1:]:
        parts = line.split("\t")
        if len(parts) < columns + 2:
            if line.strip():
                break
            continue
        machine = parts[0].strip().lower() or machine
        values = [float(value.replace("%", "").replace(" ", ".")) for value in parts[2:]]
        found.setdefault(machine, []).append(values[:columns])
    return found


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "number", "head"),
    [
        ("000_cbfusion.txt", "000", "Machine\tMetric\tSystem1"),
        ("002_ncut_knn.txt", "002", "\t\tBaseline MSE"),
        ("004_buct_dtmm_acae.txt", "004", "Machine\tMetric\tBaseline_mse"),
    ],
)
def test_every_cell_is_that_of_the_text(shared, file, number, head):
    text = (shared / "reports" / file).read_text(encoding="utf-8")
    table = find_report(number).tables[0]
    rows = _rows(text, head, len(table.systems))
    assert sum(map(len, rows.values())) == (24 if number == "000" else 21)
    for column, system in enumerate(table.systems):
        for machine, row in system.rows.items():
            printed = rows["hmean" if machine == ALL else machine.lower()]
            assert [line[column] for line in printed] == list(row), (system.name, machine)


@pytest.mark.shared
def test_every_cell_of_report_001_is_that_of_the_text(shared):
    text = (shared / "reports" / "001_npu_fusion.txt").read_text(encoding="utf-8")
    first, second, third = find_report("001").tables
    order = ("bearing", "fan", "gearbox", "slider", "ToyCar", "ToyTrain", "valve", ALL)
    printed_first = text[text.index("Table 1:") : text.index("Table 2:")]
    for system in first.systems:
        (line,) = (
            own for own in printed_first.splitlines() if re.search(rf"(^|\t){system.name}\t", own)
        )
        printed = _numbers(line.split(f"{system.name}\t")[1])
        assert printed == [*system.millions, *(system.rows[m][0] for m in order)], system.name
    lines = dict(re.findall(r"^(System\d|AUC_s|AUC_t|pAUC|hmean)\t(.*)$", text, flags=re.MULTILINE))
    for place, (coefficients, figures) in enumerate(
        zip(second.systems, third.systems, strict=True)
    ):
        assert _numbers(lines[coefficients.name]) == list(coefficients.weights)
        printed = [_numbers(lines[name])[place] for name in ("AUC_s", "AUC_t", "pAUC", "hmean")]
        assert printed == list(figures.rows[ALL])


@pytest.mark.shared
def test_every_cell_of_report_003_is_that_of_the_text(shared):
    text = (shared / "reports" / "003_xju_lora4.txt").read_text(encoding="utf-8")
    (system,) = find_report("003").tables[0].systems
    order = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve", ALL)
    for place, name in enumerate(("AUC Source", "AUC Target", "pAUC", "hmean")):
        (line,) = re.findall(rf"^{name}\t(.*)$", text, flags=re.MULTILINE)
        assert _numbers(line) == [system.rows[machine][place] for machine in order]


def test_the_walk_has_a_row_for_every_statement_and_none_is_empty():
    page = (PRESETS.parents[1] / "docs" / "notes" / "reports.md").read_text(encoding="utf-8")
    sections = re.split(r"^## Report (\d{3})", page, flags=re.MULTILINE)
    walks = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert set(walks) == set(load_reports())
    for number, walk in walks.items():
        rows = [line for line in walk.splitlines() if line.startswith("| ")][2:]
        assert len(rows) >= 12
        for row in rows:
            statement, where = (cell.strip() for cell in row.strip("|").split(" | ", maxsplit=1))
            assert len(statement) > 10, row
            assert len(where) > 5, row
        for preset in find_report(number).presets:
            if not preset.startswith("baseline_") and preset[-1] not in "234":
                assert f"`{preset}`" in page, preset

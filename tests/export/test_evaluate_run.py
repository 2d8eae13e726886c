"""`auscult evaluate` from recordings to table and files, with real floors on made-up sound."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner, Result

from agent.config.scorer_knn import KnnConfig
from agent.core.errors import AuscultError
from agent.recordings.load import load_machines
from export.commands.evaluate import evaluate
from export.evaluate import choose_systems
from export.report.embedding_map import map_of
from export.report.misses import caption, worst
from export.results import Outcome
from trainer.commands.metrics import metrics
from trainer.metrics.files import SectionScores
from trainer.preset_file import load_preset

RATE = 16000
FLOORS = ["log_mel", "loudness"]


def hum(path: Path, rng: np.random.Generator, *, gain: float = 1.0, seconds: float = 2.0) -> None:
    time = np.arange(int(seconds * RATE)) / RATE
    tone = 0.1 * np.sin(2 * np.pi * (120 + rng.uniform(-2, 2)) * time)
    sound = gain * (tone + 0.02 * rng.normal(size=len(time)))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, sound.astype(np.float32), RATE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three machines: a plain folder, a DCASE one, and one without test recordings."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for i in range(6):
        hum(root / "pump" / "normal" / f"{i}.wav", rng)
        hum(root / "saw" / "normal" / f"{i}.wav", rng)
    for i in range(4):
        hum(root / "pump" / "test" / "normal" / "day 1" / f"{i}.wav", rng)
        # Louder by 12 dB: loudness alone must find every one.
        hum(root / "pump" / "test" / "anomaly" / f"{i}.wav", rng, gain=4)
        for domain in ("source", "target"):
            name = f"section_00_{domain}_{{}}_{{}}_{i:04}_speed_{i % 2}.wav"
            hum(root / "fan" / "train" / name.format("train", "normal"), rng)
            hum(root / "fan" / "test" / name.format("test", "normal"), rng)
            # Louder in the source domain alone: half of the anomalies rank like normals.
            gain = 4.0 if domain == "source" else 1.0
            hum(root / "fan" / "test" / name.format("test", "anomaly"), rng, gain=gain)
    return root


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(evaluate, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def done(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("evaluation") / "out"
    # Another floor and another order than that of the table, and a seed no floor needs twice.
    arguments = ("--preset", "loudness", "--seed", "3", "--seed", "4", "--out", out)
    return run(data, *arguments, "--json", out / "also.json"), out


def test_every_floor_is_in_the_table_and_a_machine_without_tests_ends_nothing(done) -> None:
    result, out = done
    found = json.loads((out / "results.json").read_text())
    assert sorted(found["presets"]) == FLOORS
    for preset in FLOORS:
        part = found["presets"][preset]
        assert sorted(part["machines"]) == ["fan", "pump"]
        assert part["floor"] is True
        assert part["seeds"] == [3]
    assert result.exit_code == 1
    assert [f["machine"] for f in found["failures"]] == ["saw"]
    assert "test/anomaly/" in found["failures"][0]["reason"]
    assert "2 of 3 machines" in result.output
    assert "too narrow to rely on: fan (4), pump (4)" in result.output
    assert (out / "also.json").read_text() == (out / "results.json").read_text()


def test_figures_are_those_of_the_sound(done) -> None:
    _, out = done
    machines = json.loads((out / "results.json").read_text())["presets"]["loudness"]["machines"]
    assert machines["pump"]["auc_source"] == machines["pump"]["auc_target"] == 1.0
    assert machines["pump"]["hmean"] == pytest.approx(1.0)
    # Both domains rank against all anomalies, half of which sound healthy: about 0.75, not 1 and 0.5.
    assert 0.6 < machines["fan"]["auc_source"] < 0.95
    assert 0.6 < machines["fan"]["auc_target"] < 0.95


@pytest.mark.parametrize("preset", FLOORS)
def test_score_files_give_the_same_figures_again(done, tmp_path: Path, preset: str) -> None:
    _, out = done
    again = tmp_path / "again.json"
    arguments = [str(out / "scores" / preset), "--json", str(again)]
    result = CliRunner().invoke(metrics, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    expected = json.loads((out / "results.json").read_text())["presets"][preset]
    found = json.loads(again.read_text())
    assert found["official"] == pytest.approx(expected["official"], abs=1e-12)
    for machine in ("fan", "pump"):
        for part in ("auc_source", "auc_target", "pauc", "hmean", "interval", "decisions", "clips"):
            assert found["machines"][machine][part] == expected["machines"][machine][part]


def test_decisions_are_the_bundles_own(done) -> None:
    _, out = done
    manifest = json.loads(
        (
            out / "work" / "loudness" / "pump" / "seed_3" / "bundle-float32" / "manifest.json"
        ).read_text()
    )
    threshold = manifest["threshold"]["clip_value"]
    folder = out / "scores" / "loudness"
    scores = (folder / "anomaly_score_pump_section_00_test.csv").read_text().split("\n")
    calls = (folder / "decision_result_pump_section_00_test.csv").read_text().split("\n")
    assert len(scores) == len(calls) == 9
    for score, call in zip(scores[:-1], calls[:-1], strict=True):
        assert call.rpartition(",")[2] == str(int(float(score.rpartition(",")[2]) > threshold))
    machine = json.loads((out / "results.json").read_text())["presets"]["loudness"]["machines"]
    assert machine["pump"]["decisions"]["all"]["recall"] == 1.0


def test_pictures_and_nothing_unexpected_are_written(done) -> None:
    _, out = done
    assert sorted(path.name for path in (out / "figures").iterdir()) == ["fan.png", "pump.png"]
    assert not (out / "failures.log").exists()


def test_reuse_trains_again_only_what_changed_and_discard_leaves_nothing(
    data: Path, done, tmp_path: Path
) -> None:
    _, out = done
    shutil.copytree(out / "work", tmp_path / "work")
    seed = tmp_path / "work" / "loudness" / "pump" / "seed_3"
    made = [seed / "run" / "run.json", seed / "bundle-float32" / "manifest.json"]
    before = [path.stat().st_mtime_ns for path in made]
    base = (data / "pump", "--preset", "loudness", "--seed", "3", "--out", tmp_path, "--reuse")
    assert run(*base).exit_code == 0
    assert [path.stat().st_mtime_ns for path in made] == before
    again = json.loads((tmp_path / "results.json").read_text())["presets"]["loudness"]
    first = json.loads((out / "results.json").read_text())["presets"]["loudness"]
    assert again["machines"]["pump"]["hmean"] == first["machines"]["pump"]["hmean"]

    os.utime(data / "pump" / "normal" / "1.wav", ns=(2, 2))
    assert run(*base).exit_code == 0
    assert all(path.stat().st_mtime_ns > old for path, old in zip(made, before, strict=True))
    assert run(*base, "--discard").exit_code == 0
    assert not (tmp_path / "work").exists()


def test_presets_that_differ_in_their_scorer_alone_share_a_training(
    data: Path, done, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import builder as workshop

    real, trained = workshop.train_machine, []

    def counted(machine, preset, out, **more):
        trained.append(preset.name)
        return real(machine, preset, out, **more)

    monkeypatch.setattr(workshop, "train_machine", counted)
    mean = load_preset("log_mel").model_copy(
        update={"name": "mean", "floor": False, "scorer": KnnConfig(k=3)}
    )
    (tmp_path / "mean.yaml").write_text(mean.model_dump_json())
    out = tmp_path / "out"
    asked = ("--preset", tmp_path / "mean.yaml", "--out", out)
    assert run(data / "pump", *asked, "--compare-float").exit_code == 0
    # The floors stand last: log_mel's windows and encoder are those of `mean`. In both precisions.
    assert trained == ["mean", "loudness"]
    record = json.loads((out / "work/log_mel/pump/seed_0/run/run.json").read_text())
    assert record["preset"]["name"] == "log_mel"
    scores = "anomaly_score_pump_section_00_test.csv"
    shared, own = (folder / "scores/log_mel" / scores for folder in (out, done[1]))
    assert shared.read_text() == own.read_text()
    assert shared.read_text() != (out / "scores/mean" / scores).read_text()


def test_an_unforeseen_fault_in_one_machine_does_not_end_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import builder as workshop

    real = workshop.train_machine

    def faulty(machine, preset, out, **more):
        if machine.name == "fan":
            raise RuntimeError("out of memory")
        return real(machine, preset, out, **more)

    monkeypatch.setattr(workshop, "train_machine", faulty)
    result = run(
        data, "--machine", "fan", "--machine", "pump", "--preset", "loudness", "--out", tmp_path
    )
    assert result.exit_code == 1
    assert "out of memory" in result.output
    assert "RuntimeError" in (tmp_path / "failures.log").read_text()
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found["presets"]["loudness"]["machines"]) == ["pump"]
    assert sorted({failure["machine"] for failure in found["failures"]}) == ["fan"]


def test_a_machine_alone_without_tests_is_told_what_to_add(data: Path, tmp_path: Path) -> None:
    with pytest.raises(AuscultError, match=r"no test recordings.*test/normal/ and test/anomaly/"):
        run(data, "--machine", "saw", "--preset", "loudness", "--out", tmp_path)


def test_recordings_without_answers_are_scored_for_others_to_judge(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for i in range(5):
        hum(tmp_path / "mill" / "normal" / f"{i}.wav", rng)
        hum(tmp_path / "mill" / "test" / f"{i}.wav", rng)
    result = run(tmp_path / "mill", "--preset", "loudness", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "--key" in result.output
    written = tmp_path / "out" / "scores" / "loudness" / "anomaly_score_mill_section_00_test.csv"
    assert len(written.read_text().splitlines()) == 5


def test_only_faulty_tests_are_refused_before_training(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(3):
        hum(tmp_path / "mill" / "normal" / f"{i}.wav", rng)
        hum(tmp_path / "mill" / "test" / "anomaly" / f"{i}.wav", rng)
    with pytest.raises(AuscultError, match="all of its test recordings are labelled anomaly"):
        run(tmp_path / "mill", "--preset", "loudness", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_healthy_tests_alone_tell_of_false_alarms_and_of_nothing_else(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for i in range(6):
        hum(tmp_path / "mill" / "normal" / f"{i}.wav", rng)
    for i in range(12):
        # Four times as loud: what was learnt as healthy is not.
        hum(tmp_path / "mill" / "test" / "normal" / f"{i}.wav", rng, gain=4)
    out = tmp_path / "out"
    result = run(tmp_path / "mill", "--preset", "loudness", "--out", out)
    assert result.exit_code == 0, result.output
    assert "no faults to rank" in result.output
    found = json.loads((out / "results.json").read_text())
    machine = found["presets"]["loudness"]["machines"]["mill"]
    assert machine["hmean"] is None
    told = machine["at_threshold"]["all"]
    assert (told["faults"], told["healthy"], told["false_alarms"]) == (0, 12, 12)
    # 12 alarms in 12 clips of 2 s: one every two seconds.
    assert told["false_alarms_per_day"] == pytest.approx(43200.0)
    low, high = told["false_alarms_per_day_interval"]
    assert low < 43200.0 < high
    assert machine["verdict"]["level"] == "do not deploy"
    assert found["verdict"]["text"].startswith("loudness on mill raises 12 false alarms in 12")
    assert "verdict: loudness on mill" in result.output.replace("\n", " ")


def test_what_the_threshold_did_is_counted_from_the_written_decisions(done) -> None:
    _, out = done
    found = json.loads((out / "results.json").read_text())
    for preset in FLOORS:
        for machine in ("fan", "pump"):
            path = out / "scores" / preset / f"decision_result_{machine}_section_00_test.csv"
            calls = [line.rsplit(",", 1) for line in path.read_text().splitlines()]
            told = found["presets"][preset]["machines"][machine]["at_threshold"]["all"]
            for label, count, total in (
                ("anomaly", told["found"], told["faults"]),
                ("normal", told["false_alarms"], told["healthy"]),
            ):
                own = [int(call) for name, call in calls if label in name]
                assert (sum(own), len(own)) == (count, total)
            assert told["healthy_seconds"] == pytest.approx(2.0 * told["healthy"])
    with (out / "decisions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["domain"] for row in rows} == {"all", "source", "target"}
    pump = next(r for r in rows if (r["system"], r["machine"]) == ("loudness", "pump"))
    assert (pump["faults"], pump["found"], pump["recall"]) == ("4", "4", "1.0")
    # Four faulty clips show nothing, however they were judged.
    assert pump["verdict"] == "cannot tell"


def test_floors_stand_last_and_are_never_doubled() -> None:
    chosen = choose_systems(["loudness", "mn04"], [0, 1], ["int8", "float32"])
    names = [system.name for system in chosen]
    assert names[:2] == ["mn04 (int8)", "mn04 (float32)"]
    assert sorted(names[2:]) == FLOORS
    assert all(load_preset(name).floor for name in names[2:])
    # Nothing in a frozen, pre-trained encoder is random.
    assert chosen[0].seeds == (0,)


def test_a_trained_preset_runs_with_every_seed_once() -> None:
    chosen = choose_systems(["dual_path"], [5, 6, 5], ["int8"])
    assert (chosen[0].name, chosen[0].seeds) == ("dual_path", (5, 6))


def test_two_presets_of_one_name_are_refused(tmp_path: Path) -> None:
    text = "name: mn04\nsummary: mine\nencoder: {kind: mn04, weights: mn04_as_mAP_432.pt}\n"
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(AuscultError, match="second preset is named 'mn04'"):
        choose_systems(["mn04", str(tmp_path / "mine.yaml")], [0], ["int8"])


def test_the_report_shows_and_plays_what_was_judged_worst(done):
    _, out = done
    page = (out / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    for machine in ("pump", "fan"):
        assert f"<h2>{machine}</h2>" in page
    # Half of the fan's anomalies are no louder than its healthy sound.
    assert "target_test_anomaly" in page
    assert page.count("data:audio/flac") == 2 * 6
    assert "saw" in page, "a machine that could not be judged is told"


def test_the_map_of_embeddings_names_every_point(data, done):
    """It was a picture, in which no point could be asked what it is."""
    _, out = done
    folder = out / "work" / "log_mel" / "fan" / "seed_3" / "bundle-float32"
    (machine,) = load_machines(data / "fan")
    plane = map_of(folder, machine, channel=None).chart.data()
    counts = {
        one["name"].split(" (")[0]: sum(value is not None for value in one["values"])
        for one in plane["series"]
    }
    # Of the fan: eight recordings to learn from, and four of each kind to be judged.
    assert counts == {"memory bank": 8, "normal": 4, "normal, target": 4, "anomaly": 8}
    assert plane["x"] == sorted(plane["x"])
    for name, faulty in zip(plane["names"], plane["series"][-1]["values"], strict=True):
        assert ("anomaly" in name) == (faulty is not None), name


def test_worst_misses_are_ranked_by_how_wrong_they_are():
    scores = {"n0": 0.1, "n1": 0.9, "n2": 0.3, "a0": 0.2, "a1": 0.8}
    section = SectionScores(
        machine="fan",
        section="00",
        names=tuple(scores),
        labels=("normal", "normal", "normal", "anomaly", "anomaly"),
        domains=("source",) * 5,
        scores=np.array(list(scores.values())),
        decisions=None,
    )
    outcome = Outcome(figures=None, sections=(section,), threshold=0.5, precision="int8")
    missed, raised = worst(outcome, 2)
    assert [(m.name, m.wrong) for m in missed] == [("a0", True), ("a1", False)]
    assert [(m.name, m.wrong) for m in raised] == [("n1", True), ("n2", False)]
    assert missed[0].rank == pytest.approx(2 / 3)
    assert raised[0].rank == 1.0
    assert "missed" in caption(missed[0])
    assert "false alarm" in caption(raised[0])


def test_split_by_time_learns_the_earlier_days_and_judges_the_later(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    for day in (2, 3, 28):
        for i in range(6):
            # On the last day the machine is four times as loud.
            name = f"202603{day:02}_0{i}0000.wav"
            hum(tmp_path / "mill" / "normal" / name, rng, gain=4 if day == 28 else 1)
    out = tmp_path / "out"
    result = run(
        tmp_path / "mill", "--preset", "loudness", "--split", "time", "--cut", "0.6", "--out", out
    )
    assert result.exit_code == 0, result.output
    found = json.loads((out / "results.json").read_text())
    assert found["split"]["machines"]["mill"] == {
        "cut": "2026-03-28T00:00:00",
        "by": "names",
        "learnt": 12,
        "judged": 6,
    }
    told = found["presets"]["loudness"]["machines"]["mill"]["at_threshold"]["all"]
    assert (told["healthy"], told["false_alarms"]) == (6, 6)
    assert "learnt from 12 healthy recordings before 2026-03-28" in result.output.replace("\n", " ")


def test_a_cut_without_a_split_by_time_is_refused(data: Path) -> None:
    result = run(data, "--cut", "0.5")
    assert result.exit_code == 2
    assert "--cut needs --split time" in result.output

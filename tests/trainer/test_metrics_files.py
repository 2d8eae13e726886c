"""Challenge-format files: what is read, what is refused, and what published files score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.core.errors import AuscultError
from trainer.commands.metrics import metrics
from trainer.metrics import SectionScores, official, read_key, read_scores, summarize, write_scores

CLIPS = {
    "section_00_source_test_normal_0000_spd_1.wav": 0.1,
    "section_00_target_test_normal_0001_spd_2.wav": 0.6,
    "section_00_source_test_anomaly_0002_spd_1.wav": 0.5,
    "section_00_target_test_anomaly_0003_noAttribute.wav": 0.9,
}


def lines(
    folder: Path, clips: dict[str, object], name: str = "anomaly_score_fan_section_00_test"
) -> Path:
    path = folder / f"{name}.csv"
    path.write_text("".join(f"{clip},{value}\n" for clip, value in clips.items()))
    return path


def test_names_tell_label_and_domain(tmp_path: Path) -> None:
    lines(tmp_path, CLIPS)
    (section,) = read_scores(tmp_path)
    assert (section.machine, section.section) == ("fan", "00")
    assert section.labels == ("normal", "normal", "anomaly", "anomaly")
    assert section.domains == ("source", "target", "source", "target")
    (machine,) = summarize([section])
    assert (machine.auc_source, machine.auc_target) == (1.0, 0.5)


def test_sections_stay_apart_and_the_official_score_is_one_mean_over_all(tmp_path: Path) -> None:
    lines(tmp_path, CLIPS)
    other = {name.replace("section_00", "section_01"): 1 - score for name, score in CLIPS.items()}
    lines(tmp_path, other, "anomaly_score_fan_section_01_test")
    lines(tmp_path, CLIPS, "anomaly_score_a_b_section_00_test")
    machines = {m.machine: m for m in summarize(read_scores(tmp_path))}
    assert list(machines) == ["a_b", "fan"]
    assert list(machines["fan"].sections) == ["00", "01"]
    # Section 01 has a zero area (its source normal lies above both anomalies): all means are 0.
    assert machines["fan"].sections["01"].auc.auc_source == 0.0
    assert machines["fan"].hmean == 0.0
    assert machines["a_b"].hmean > 0.6
    assert official(list(machines.values())).value == 0.0


def test_resamples_of_a_machine_do_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    clips = {
        name.replace("000", f"0{n}0"): score + n * 0.07
        for name, score in CLIPS.items()
        for n in range(9)
    }
    lines(tmp_path, clips)
    alone = summarize(read_scores(tmp_path))[0].intervals
    lines(tmp_path, clips, "anomaly_score_a_section_00_test")
    beside = summarize(read_scores(tmp_path))
    assert beside[1].intervals == alone
    assert alone["hmean"][0] < alone["hmean"][1]


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    section = SectionScores(
        machine="pump, old",
        section="00",
        names=("test/normal/a,b.wav", "test/Anomaly/monday/c.wav"),
        labels=("normal", "anomaly"),
        domains=("unknown", "unknown"),
        scores=np.array([0.1 + 0.2, 1e-9]),
        decisions=np.array([False, True]),
    )
    write_scores(tmp_path, section)
    (found,) = read_scores(tmp_path)
    np.testing.assert_array_equal(found.scores, section.scores)
    assert found.decisions is not None
    np.testing.assert_array_equal(found.decisions, section.decisions)
    assert (found.names, found.labels, found.domains) == (
        section.names,
        section.labels,
        section.domains,
    )


def test_a_key_maps_anonymous_names_whatever_their_suffix(tmp_path: Path) -> None:
    lines(tmp_path, {f"section_00_{n:04}.flac": score for n, score in enumerate(CLIPS.values())})
    key = tmp_path / "key.txt"
    key.write_text(
        "fan\r\n" + "".join(f"section_00_{n:04}.wav,{name}\r\n" for n, name in enumerate(CLIPS))
    )
    (machine,) = summarize(read_scores(tmp_path, read_key(key)))
    assert (machine.auc_source, machine.auc_target) == (1.0, 0.5)


def refused(folder: Path, *said: str, key: Path | None = None) -> None:
    with pytest.raises(AuscultError) as fault:
        summarize(read_scores(folder, None if key is None else read_key(key)))
    for part in said:
        assert part in str(fault.value)


@pytest.mark.parametrize("bad", ["nan", "inf", "", "high"])
def test_a_score_that_is_no_number_is_named(tmp_path: Path, bad: str) -> None:
    lines(tmp_path, {**CLIPS, "section_00_source_test_normal_0009.wav": bad})
    refused(tmp_path, "anomaly_score_fan_section_00_test.csv, line 5", repr(bad))


def test_a_clip_that_comes_twice_is_named(tmp_path: Path) -> None:
    lines(tmp_path, {**CLIPS, "section_00_source_test_normal_0000_spd_1.flac": 3})
    refused(tmp_path, "line 5", "second time (first on line 1)")


def test_a_machine_with_one_class_is_named(tmp_path: Path) -> None:
    lines(tmp_path, CLIPS, "anomaly_score_a_section_00_test")
    lines(tmp_path, {name: score for name, score in CLIPS.items() if "anomaly" not in name})
    refused(tmp_path, "anomaly_score_fan", "labelled anomaly")


def test_anonymous_names_without_key_ask_for_it(tmp_path: Path) -> None:
    lines(tmp_path, {"section_00_0000.wav": 1})
    refused(tmp_path, "line 1", "--key")


def test_other_faults_of_files(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "does not exist")
    refused(tmp_path, "holds no anomaly_score")
    path = lines(tmp_path, CLIPS)
    stray = lines(tmp_path, CLIPS, "anomaly_score_fan")
    refused(tmp_path, "anomaly_score_fan.csv", "not named as a result file")
    stray.unlink()
    wrong = lines(tmp_path, CLIPS, "anomaly_score_fan_section_01_test")
    refused(tmp_path, "section_01_test.csv, line 1", "belongs to section 00")
    wrong.unlink()
    path.write_text("section_00_source_test_normal_0000.wav,1,2\n")
    refused(tmp_path, "line 1", "3 columns")
    path.write_text("")
    refused(tmp_path, "is empty")
    path.write_bytes(b"\xff\xfe\x00\xd8")
    refused(tmp_path, "not a CSV")


def test_decision_files_must_match_their_score_files(tmp_path: Path) -> None:
    lines(tmp_path, CLIPS)
    calls = dict.fromkeys(CLIPS, 1)
    stray = lines(tmp_path, calls, "decision_result_pump_section_00_test")
    refused(tmp_path, "decision_result_pump", "without its score file")
    lines(tmp_path, CLIPS, "anomaly_score_pump_section_00_test")
    refused(tmp_path, "none for fan section 00")
    lines(tmp_path, calls, "decision_result_fan_section_00_test")
    assert summarize(read_scores(tmp_path))[0].decisions["all"].recall == 1.0
    clip = next(iter(CLIPS))
    stray.write_text(stray.read_text().replace(f"{clip},1", f"{clip},0.5"))
    refused(tmp_path, "decision_result_pump", "line 1", "'0.5'")
    stray.write_text("".join(stray.read_text().splitlines(keepends=True)[1:]))
    refused(tmp_path, "decision_result_pump", "no decision on section_00_source_test_normal_0000")


def test_a_key_refuses_missing_and_unknown(tmp_path: Path) -> None:
    anonymous = {f"section_00_{n:04}.wav": score for n, score in enumerate(CLIPS.values())}
    pairs = [f"section_00_{n:04}.wav,{name}" for n, name in enumerate(CLIPS)]
    key = tmp_path / "key.txt"
    path = lines(tmp_path, anonymous)

    key.write_text("\n".join(["fan", *pairs, "pump", *pairs]))
    refused(tmp_path, "anomaly_score_pump_section_00_test.csv is missing", "line 6", key=key)
    key.write_text("\n".join(["pump", *pairs]))
    refused(tmp_path, "does not know machine fan", key=key)
    key.write_text("\n".join(["fan", *pairs[:-1]]))
    refused(tmp_path, "line 4", "not in the key", key=key)
    key.write_text("\n".join(["fan", *pairs]))
    path.write_text(path.read_text().replace("section_00_0003.wav,0.9\n", ""))
    refused(tmp_path, "no score for section_00_0003", key=key)
    key.write_text("\n".join(pairs))
    refused(tmp_path, "key.txt, line 1", "before any machine", key=key)
    key.write_text("\n".join(["fan", pairs[0], pairs[0]]))
    refused(tmp_path, "key.txt, line 3", "second time", key=key)
    key.write_text("fan\nsection_00_0000.wav,section_00_0000.wav")
    refused(tmp_path, "key.txt, line 2", "does not tell", key=key)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("system", "part", "published"),
    [
        ("raw-k1", "dev", "58.73"),
        ("raw-k1", "eval", "55.83"),
        ("ldn-ratio-K1", "dev", "56.47"),
        ("ldn-ratio-K1", "eval", "61.04"),
    ],
)
def test_published_scores_give_the_published_figures(
    shared: Path, tmp_path: Path, system: str, part: str, published: str
) -> None:
    folder = shared / "data" / "dcase2025_scores"
    arguments = [str(folder / system / part), "--json", str(tmp_path / "m.json")]
    if part == "eval":
        arguments += ["--key", str(folder / "eval_ground_truth.csv")]
    done = CliRunner().invoke(metrics, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert published in done.output.splitlines()[-3]
    found = json.loads((tmp_path / "m.json").read_text())
    assert f"{100 * found['official']:.2f}" == published
    low, high = found["interval"]
    assert low < found["official"] < high
    assert len(found["machines"]) == (7 if part == "dev" else 8)

"""What thresholds found without a recording would have done with it, from known scores."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from agent.bundle.manifest import Row
from agent.calibrate.limits import HealthyScores
from agent.config.threshold import ThresholdRule
from agent.learn.rehearsal import held_out_clips
from agent.verdict.figures import decision_figures
from trainer.commands.train import train

RULE = ThresholdRule(false_alarm_rate=0.2)


def healthy(scores, *, groups=None, starts=None, domains=None) -> HealthyScores:
    groups = groups or [f"{i}.wav" for i in range(len(scores))]
    rows = [
        Row(
            source=group.partition("#")[0],
            start=0.0 if starts is None else starts[i],
            group=group,
            domain="unknown" if domains is None else domains[i],
        )
        for i, group in enumerate(groups)
    ]
    return HealthyScores(np.array(scores, np.float32), rows)


def called(found) -> list[str]:
    return [clip.name for clip in found if clip.called]


def test_each_recording_is_held_against_the_others_alone():
    # Of 29 others a fifth may lie above: the ceil(30 * 0.8) = 24th smallest of them is the limit.
    clips, scores = held_out_clips(healthy(np.arange(30.0)), RULE, "mean", {}, 10.0)
    assert scores == list(np.arange(30.0))
    assert len(clips) == 30
    # Folds hold one or two; without the top ones the limit falls, so about six are called, and
    # those the highest.
    names = called(clips)
    assert 5 <= len(names) <= 8
    assert names == [f"{i}.wav" for i in range(30 - len(names), 30)]


def test_a_lone_outlier_is_called_though_it_would_have_lifted_its_own_threshold():
    scores = [*np.random.default_rng(0).normal(size=40), 50.0]
    rule = ThresholdRule(false_alarm_rate=0.01)
    clips, _ = held_out_clips(healthy(scores), rule, "mean", {}, 10.0)
    assert "40.wav" in called(clips)


def test_on_exchangeable_recordings_the_share_called_is_near_what_was_asked():
    rng = np.random.default_rng(1)
    hits = total = 0
    for _ in range(20):
        clips, _ = held_out_clips(healthy(rng.normal(size=60)), RULE, "mean", {}, 10.0)
        hits += len(called(clips))
        total += len(clips)
    # 1200 recordings at 20 %: the standard error is 1.2 points; counting never promises less.
    assert 0.14 < hits / total < 0.25


def test_windows_make_recordings_by_the_scorers_rule_and_missing_scores_count_nowhere():
    scores = [1.0, 3.0, np.nan, 2.0, 4.0, 5.0]
    groups = ["a", "a", "b", "c", "c", "d"]
    for clip, expected in (("mean", [2.0, 3.0, 5.0]), ("max", [3.0, 4.0, 5.0])):
        clips, found = held_out_clips(healthy(scores, groups=groups), RULE, clip, {}, 10.0)
        assert found == expected
        assert [one.name for one in clips] == ["a", "c", "d"]


def test_fewer_than_three_recordings_say_nothing():
    assert held_out_clips(healthy([1.0, 2.0]), RULE, "mean", {}, 10.0) == ([], [])


def test_lengths_are_the_files_own_and_a_blocks_from_its_windows():
    clips, _ = held_out_clips(
        healthy(
            [1.0, 2.0, 3.0, 4.0],
            groups=["a.wav", "b.wav#0", "b.wav#0", "b.wav#1"],
            starts=[0.0, 0.0, 20.0, 100.0],
        ),
        RULE, "mean", {"a.wav": 2.5, "b.wav": 120.0}, 10.0,
    )  # fmt: skip
    assert [clip.seconds for clip in clips] == [2.5, 30.0, 10.0]
    daily = decision_figures(clips)["all"].daily
    assert daily is not None
    assert daily.seconds == 42.5


def test_domains_are_told_apart():
    scores = np.r_[np.arange(20.0), 100.0 + np.arange(20.0)]
    domains = ["source"] * 20 + ["target"] * 20
    clips, _ = held_out_clips(healthy(scores, domains=domains), RULE, "mean", {}, 10.0)
    found = decision_figures(clips)
    # One threshold for both, the highest of theirs: no source recording reaches it.
    assert found["source"].false.hits == 0
    assert found["target"].false.hits >= 3


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("rehearsal")
    rng = np.random.default_rng(0)
    folder = root / "pump" / "normal"
    folder.mkdir(parents=True)
    for i in range(8):
        # One of them eight times as loud as the rest.
        gain = 0.16 if i == 5 else 0.02 * (1 + 0.01 * i)
        soundfile.write(folder / f"{i}.wav", gain * rng.normal(size=32000), 16000)
    arguments = [str(root / "pump"), "--preset", "loudness", "--out", str(root / "run")]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return root / "run", " ".join(result.output.split())


def test_train_says_what_its_threshold_would_have_done(trained):
    run, output = trained
    # The loud one is known to be unlike all others: it sets no threshold, and is not counted.
    assert "each held against a threshold found without it: 1 of 7" in output
    assert "verdict: raises 1 false alarm in 7 healthy clips: cannot tell" in output
    found = json.loads((run / "decisions.json").read_text())
    whole = found["at_threshold"]["all"]
    assert (whole["healthy"], whole["false_alarms"], whole["healthy_seconds"]) == (7, 1, 14.0)
    # One in 14 s of sound.
    assert whole["false_alarms_per_day"] == pytest.approx(86400 / 14)
    assert found["verdict"]["level"] == "cannot tell"
    assert any("faults" in one for one in found["verdict"]["record"])
    page = (run / "report.html").read_text()
    assert '<section class="verdict unknown">' in page
    assert "raises 1 false alarm in 7 healthy clips" in page


def test_of_three_sessions_each_is_held_against_the_others():
    scores = [*np.linspace(0.0, 1.0, 40), *np.linspace(5.0, 6.0, 20)]
    plain = healthy(scores)
    days = [f"day {i // 20}" for i in range(60)]
    known = HealthyScores(
        plain.scores,
        [
            row.model_copy(update={"session": day})
            for row, day in zip(plain.rows, days, strict=True)
        ],
    )
    rule = ThresholdRule(false_alarm_rate=0.01)
    # The third day's recordings would lift each other's threshold.
    assert len(called(held_out_clips(plain, rule, "mean", {}, 10.0)[0])) < 5
    names = called(held_out_clips(known, rule, "mean", {}, 10.0)[0])
    assert names == [f"{i}.wav" for i in range(40, 60)]

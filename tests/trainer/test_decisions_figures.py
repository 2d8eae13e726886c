"""Shares, rates a day and delays at the threshold, against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agent.verdict.figures import DailyRate, JudgedClip, Share, decision_figures
from agent.verdict.intervals import rate_interval, share_interval
from agent.verdict.report import COLUMNS, csv_rows, daily_words, delay_words, share_words
from trainer.decisions.clips import judged_clips
from trainer.metrics.files import SectionScores


def clip(name, label="normal", *, called=False, domain="unknown", seconds=10.0) -> JudgedClip:
    return JudgedClip(name, label, domain, called, seconds)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [
        # Clopper and Pearson: published tables, and closed forms at the ends.
        (4, 100, 0.0110045, 0.0992572),
        (0, 10, 0.0, 1.0 - 0.025**0.1),
        (10, 10, 0.025**0.1, 1.0),
        (1, 1, 0.025, 1.0),
        (5, 10, 0.1870860, 0.8129140),
    ],
)
def test_interval_of_a_share_is_clopper_and_pearsons(hits, total, low, high):
    found = share_interval(hits, total)
    assert found == pytest.approx((low, high), abs=2e-6)
    # What defines it: at either end, so extreme a count has probability 2.5 %.
    if hits:
        assert 1.0 - _at_most(hits - 1, total, found[0]) == pytest.approx(0.025, abs=1e-9)
    if hits < total:
        assert _at_most(hits, total, found[1]) == pytest.approx(0.025, abs=1e-9)


def _at_most(hits, total, share) -> float:
    return sum(
        math.comb(total, k) * share**k * (1.0 - share) ** (total - k) for k in range(hits + 1)
    )


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # Garwood's table of 95 % limits of a Poisson mean.
    [(0, 0.0, -math.log(0.025)), (1, 0.025318, 5.571643), (7, 2.814363, 14.422675)],
)
def test_interval_of_a_rate_is_garwoods(count, low, high):
    assert rate_interval(count, 1.0) == pytest.approx((low, high), abs=1e-5)
    assert rate_interval(count, 4.0) == pytest.approx((low / 4, high / 4), abs=1e-5)


@pytest.mark.parametrize("bad", [(1, 0), (-1, 3), (4, 3)])
def test_impossible_counts_are_refused(bad):
    with pytest.raises(ValueError, match="no share"):
        share_interval(*bad)


@pytest.mark.parametrize("bad", [(-1, 1.0), (1, 0.0), (1, math.nan)])
def test_a_rate_needs_something_it_was_counted_in(bad):
    with pytest.raises(ValueError, match="no rate"):
        rate_interval(*bad)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    for share in (0.02, 0.3):
        drawn = rng.binomial(40, share, 4000)
        inside = [low <= share <= high for low, high in (share_interval(int(k), 40) for k in drawn)]
        # Exact: never less than 95 %, up to the spread of 4000 draws.
        assert np.mean(inside) > 0.94


def test_seven_false_alarms_in_a_thousand_seconds_are_605_a_day():
    found = DailyRate.of(7, 1000.0)
    assert found.per_day == pytest.approx(7 * 86.4)
    assert found.interval == pytest.approx((2.814363 * 86.4, 14.422675 * 86.4), rel=1e-5)
    assert daily_words(found) == "605 (243 to 1246)"


def test_no_false_alarm_in_a_day_may_still_be_three():
    assert daily_words(DailyRate.of(0, 86_400.0)) == "0 (0 to 3.7)"


def test_faults_and_alarms_are_counted_over_all_and_within_a_domain():
    clips = [
        *(clip(f"s{i}", called=i < 1, domain="source") for i in range(4)),
        *(clip(f"t{i}", called=i < 3, domain="target", seconds=20.0) for i in range(4)),
        *(clip(f"f{i}", "anomaly", called=i < 2, domain="source") for i in range(5)),
    ]
    found = decision_figures(clips)
    assert list(found) == ["all", "source", "target"]
    whole = found["all"]
    assert (whole.found.hits, whole.found.total) == (2, 5)
    assert (whole.false.hits, whole.false.total) == (4, 8)
    assert whole.daily is not None
    assert (whole.daily.count, whole.daily.seconds) == (4, 120.0)
    assert (found["target"].found.total, found["target"].found.value) == (0, None)
    assert found["target"].false == Share.of(3, 4)
    assert found["source"].found == Share.of(2, 5)


def test_one_domain_is_not_told_twice():
    assert list(decision_figures([clip("a"), clip("b", "anomaly")])) == ["all"]


def test_without_lengths_there_is_no_rate_a_day():
    found = decision_figures([clip("a", seconds=None), clip("b")])["all"]
    assert found.daily is None
    assert daily_words(found.daily) == "-"


NIGHT = "2026-03-02T{}_{}.wav"


def test_delay_is_the_sound_from_an_episodes_beginning_to_the_first_alarm():
    # Not in order of time, as a folder of faulty clips never is beside one of healthy ones.
    clips = [
        clip(f"test/anomaly/{NIGHT.format('01-00-00', 1)}", "anomaly", called=False),
        clip(f"test/anomaly/{NIGHT.format('01-00-00', 2)}", "anomaly", called=True, seconds=6.0),
        clip(f"test/anomaly/{NIGHT.format('01-00-10', 1)}", "anomaly", called=True),
        clip(f"test/anomaly/{NIGHT.format('03-00-00', 1)}", "anomaly", called=False),
        clip(f"test/anomaly/{NIGHT.format('05-00-00', 1)}", "anomaly", called=True),
        clip(f"test/normal/{NIGHT.format('00-00-00', 1)}", called=True),
        clip(f"test/normal/{NIGHT.format('02-00-00', 1)}"),
        clip(f"test/normal/{NIGHT.format('04-00-00', 1)}"),
    ]
    delay = decision_figures(clips)["all"].delay
    assert delay is not None
    assert delay.seconds == (16.0, 10.0)
    assert (delay.missed, delay.episodes) == (1, 3)
    assert delay_words(delay) == "13 s, at most 16 s, 1 of 3 not noticed"


def test_without_times_in_every_name_there_is_no_delay():
    faulty = clip("test/anomaly/20260302_010203_1.wav", "anomaly", called=True)
    assert decision_figures([faulty])["all"].delay is not None
    assert decision_figures([faulty, clip("test/normal/7.wav")])["all"].delay is None


def test_a_fault_that_was_never_called_has_no_delay():
    faulty = [clip(f"20260302_01020{i}.wav", "anomaly") for i in range(3)]
    delay = decision_figures(faulty)["all"].delay
    assert delay is not None
    assert delay_words(delay) == "none of 1 noticed"


def test_clips_without_an_answer_count_nowhere():
    section = SectionScores(
        machine="m", section="00", names=("a", "b", "c"), labels=("normal", "", "anomaly"),
        domains=("unknown",) * 3, scores=np.array([1.0, 2.0, 3.0]),
        decisions=np.array([False, True, True]), seconds=np.array([10.0, 10.0, 10.0]),
    )  # fmt: skip
    found = decision_figures(judged_clips([section]))["all"]
    assert (found.found.total, found.false.total, found.false.hits) == (1, 1, 0)


def test_words_and_columns():
    assert share_words(Share.of(4, 100)) == "4 of 100 (4 %, 1.1 to 9.93 %)"
    assert share_words(Share.of(0, 0)) == "-"
    (row,) = csv_rows(decision_figures([clip("a", called=True), clip("b", "anomaly")]))
    assert len(row) == len(COLUMNS)
    told = dict(zip(COLUMNS, row, strict=True))
    assert (told["faults"], told["found"], told["false_alarms"]) == (1, 0, 1)
    assert told["false_alarms_per_day"] == pytest.approx(8640.0)
    assert told["fault_episodes"] is None

"""The rules of the verdict: a useless detector is never told as good."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from agent.recordings.model import Machine, Recording
from agent.verdict.advice import what_to_record
from agent.verdict.figures import DecisionFigures, Share
from agent.verdict.verdict import LEVELS, Standing, Verdict, judge, worst


def figures(found, faults, false, healthy, **domains) -> dict[str, DecisionFigures]:
    return {
        "all": DecisionFigures(Share.of(found, faults), Share.of(false, healthy)),
        **{
            name: DecisionFigures(Share.of(*own[:2]), Share.of(*own[2:]))
            for name, own in domains.items()
        },
    }


def test_the_published_bad_case_is_told_as_it_is():
    found = judge(figures(4, 100, 7, 100), record=("more of the target domain",))
    assert found.level == "do not deploy"
    assert found.text() == (
        "finds 4 of 100 faults at 7 false alarms in 100 healthy clips: do not deploy; misses more "
        "than half of the faults; what it finds may be chance: healthy clips are called as often; "
        "more than one healthy clip in twenty is a false alarm; record more of the target domain"
    )


@pytest.mark.parametrize(
    ("counts", "level"),
    [
        ((95, 100, 2, 100), "good"),
        ((80, 100, 5, 100), "good"),
        ((79, 100, 5, 100), "usable"),
        ((95, 100, 6, 100), "usable"),
        ((95, 100, 10, 100), "usable"),
        ((95, 100, 11, 100), "do not deploy"),
        ((50, 100, 0, 100), "usable"),
        ((49, 100, 0, 100), "do not deploy"),
        ((0, 100, 0, 100), "do not deploy"),
        # Every clip is called: all faults found, and no use.
        ((100, 100, 100, 100), "do not deploy"),
        # 20 of 20 and 0 of 20: lower end 0.83, upper end 0.17.
        ((20, 20, 0, 20), "good"),
        # 0 of 10 healthy clips: up to 31 % may be false alarms.
        ((10, 10, 0, 10), "usable"),
        ((4, 4, 0, 4), "cannot tell"),
        ((3, 4, 0, 40), "cannot tell"),
        # Six of six missed shows it already (upper end 0.459), five of five do not (0.522).
        ((0, 6, 0, 40), "do not deploy"),
        ((0, 5, 0, 40), "cannot tell"),
        ((0, 0, 0, 100), "cannot tell"),
        ((0, 0, 30, 100), "do not deploy"),
        # 6 of 12 against 1 of 10: p = 0.06.
        ((6, 12, 1, 10), "cannot tell"),
    ],
)
def test_levels(counts, level):
    assert judge(figures(*counts)).level == level


def test_a_domain_that_is_useless_makes_the_whole_so():
    found = judge(
        figures(100, 100, 8, 100, source=(50, 50, 0, 50), target=(50, 50, 8, 50)),
    )
    assert found.level == "do not deploy"
    assert found.reasons[0] == (
        "more than one healthy clip in ten of the target domain is a false alarm (8 of 50)"
    )
    few = judge(figures(100, 100, 2, 100, source=(98, 98, 0, 98), target=(0, 2, 1, 2)))
    assert few.level == "good", "a domain of two clips shows nothing"


def test_a_floor_that_is_better_is_named():
    standing = Standing(0.60, {"loudness": 0.868, "log_mel": 0.5})
    found = judge(figures(95, 100, 1, 100), standing)
    assert found.level == "usable"
    assert "below the floor loudness: loudness alone ranks at 86.8, this at 60.0" in found.reasons
    near = judge(figures(95, 100, 1, 100), Standing(0.90, {"loudness": 0.92}))
    assert near.level == "good"
    assert "below the floor loudness" in near.text()


def test_when_a_floor_and_the_system_are_near_perfect_it_says_that_anything_finds_these():
    found = judge(figures(100, 100, 0, 100), Standing(0.998, {"loudness": 1.0}))
    assert "anything finds these faults (loudness alone ranks at 100.0)" in found.text()
    assert "below the floor" not in found.text()


def test_a_floor_itself_is_not_below_another():
    found = judge(figures(95, 100, 1, 100), Standing(0.5, {"loudness": 0.9}, floor=True))
    assert found.level == "good"


def test_false_alarms_beyond_twice_the_promise_are_told():
    # 4 of 100 at a promise of 1 %: the lower end is 1.1 %, not beyond 2 %.
    assert judge(figures(95, 100, 4, 100), Standing(promise=0.01)).level == "good"
    found = judge(figures(950, 1000, 40, 1000), Standing(promise=0.01))
    assert found.level == "usable"
    assert "false alarms are more than twice the promised 1 in 100" in found.reasons


def test_the_worst_of_several_comes_first():
    found = [Verdict(level, "x") for level in reversed(LEVELS)]
    assert worst(found).level == "do not deploy"
    assert [v.rank for v in found] == [3, 2, 1, 0]


def test_a_useless_detector_is_never_told_as_good():
    good = 0
    for found, missed, false, passed in product((0, 1, 4, 9, 10, 20, 60), repeat=4):
        level = judge(figures(found, found + missed, false, false + passed)).level
        faults, healthy = found + missed, false + passed
        if not faults or not healthy:
            assert level in {"cannot tell", "do not deploy"}
            continue
        # Finds no larger share than it raises falsely.
        useless = found * healthy <= false * faults
        if useless or found < faults / 2 or false > healthy / 10:
            assert level in {"cannot tell", "do not deploy"}
        if level == "good":
            good += 1
            assert found >= 0.8 * faults
            assert false <= 0.05 * healthy
            assert min(faults, healthy) >= 10
    assert good > 10, "some of these detectors are good"


def machine(*recordings) -> Machine:
    return Machine("pump", Path("pump"), tuple(recordings))


def heard(count, role="normal", label=None, domain="unknown", start=0, **attributes):
    return [
        Recording(Path(f"{role}{label}{domain}{start + i}.wav"), "pump", role, label, "", domain,
                  {k: str(v) for k, v in attributes.items()})
        for i in range(count)
    ]  # fmt: skip


def test_without_faults_they_are_asked_for_first():
    advice = what_to_record(machine(*heard(40), *heard(40, "test", "normal")))
    assert advice[0].startswith("faults, or harmless stand-ins")


def test_a_condition_that_is_judged_and_was_never_learnt_is_named():
    own = machine(
        *heard(40, speed=1),
        *heard(30, "test", "normal", speed=1),
        *heard(3, "test", "normal", start=90, speed=3),
        *heard(20, "test", "anomaly", speed=1),
    )
    assert what_to_record(own)[0] == (
        "healthy sound at speed 3 to learn from: 3 healthy test clips and no training recording"
    )


def test_a_domain_of_few_recordings_is_asked_for_with_its_false_alarms():
    target = heard(50, "test", "normal", "target", vel=1)
    own = machine(
        *heard(288, domain="source", vel=1), *heard(10, domain="target", vel=1),
        *heard(50, "test", "normal", "source", vel=1), *target,
        *heard(100, "test", "anomaly", "source", vel=1),
    )  # fmt: skip
    advice = what_to_record(own, figures(4, 100, 7, 100), target[:7])
    assert advice == (
        (
            "more healthy sound of the target domain (10 of 298 training recordings, 7 of 7 false "
            "alarms)"
        ),
    )


def test_few_recordings_and_few_clips_are_counted():
    own = machine(*heard(6), *heard(4, "test", "normal"), *heard(4, "test", "anomaly"))
    advice = what_to_record(own, figures(4, 4, 0, 4))
    assert advice[0] == "6 more faulty clips"
    assert any("6 recordings so far" in one for one in advice)
    assert any(one.startswith("26 more healthy clips to judge with") for one in advice)


def test_one_clip_that_lacks_is_one_clip():
    own = machine(*heard(6), *heard(29, "test", "normal"), *heard(9, "test", "anomaly"))
    advice = what_to_record(own, figures(9, 9, 3, 29))
    assert advice[0] == "1 more faulty clip"
    assert "1 more healthy clip to judge with, into test/normal" in advice


def test_enough_of_everything_asks_for_nothing():
    own = machine(
        *heard(40, load=1), *heard(40, "test", "normal", load=1), *heard(20, "test", "anomaly")
    )
    assert what_to_record(own, figures(20, 20, 0, 40)) == ()


def test_false_alarms_after_learning_one_day_ask_for_other_days():
    def taken(day, count, role="normal", label=None):
        return [
            Recording(Path(f"{role}/{day}_1200{i:02}_1.flac"), "pump", role, label)
            for i in range(count)
        ]

    own = machine(
        *taken("20260302", 40), *taken("20260326", 40, "test", "normal"),
        *taken("20260327", 20, "test", "anomaly"),
    )  # fmt: skip
    advice = what_to_record(own, figures(20, 20, 9, 40))
    assert "healthy sound on other days: all that was learnt is of one day" in advice
    assert not any("other days" in one for one in what_to_record(own, figures(20, 20, 0, 40)))

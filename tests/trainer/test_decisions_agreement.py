"""A detector whose healthy recordings do not agree is told before all else."""

from __future__ import annotations

import numpy as np
import pytest

from agent.bundle.facts import ConditionsInfo
from agent.hygiene.bands import band_note
from agent.verdict.agreement import agreement
from agent.verdict.figures import JudgedClip, decision_figures
from trainer.encoders.base import View


def rehearsal(scores, above):
    clips = tuple(
        JudgedClip(f"normal/{n:02}.wav", "normal", "", n < above, 10.0) for n in range(len(scores))
    )
    figures = decision_figures(clips)
    return clips, tuple(scores), figures["all"].false


def ruined(rehearsal, apart=()):
    found = agreement(*rehearsal, apart)
    return "" if found is None else found.ruined


def test_healthy_recordings_that_agree_are_no_news():
    scores = np.random.default_rng(0).normal(0, 1, 24)
    assert ruined(rehearsal(scores, 1)) == ""
    assert ruined(rehearsal(scores, 3)) == ""
    assert ruined(rehearsal((), 0)) == ""


def test_most_above_their_own_threshold_is_said_with_names():
    told = ruined(rehearsal(np.arange(24.0), 12))
    assert told.startswith("RUINED: 12 of 24 healthy recordings lie above a threshold")
    assert "normal/23.wav" in told


def test_one_far_from_all_is_said_unless_it_is_known_to_be_apart():
    scores = [*np.random.default_rng(0).normal(0, 1, 23), 5000.0]
    assert "normal/23.wav" in ruined(rehearsal(scores, 1))
    assert ruined(rehearsal(scores, 1), {"normal/23.wav"}) == ""


@pytest.mark.parametrize(
    ("bandwidth", "views", "told"),
    [
        (8000.0, (), False),
        (7300.0, (), False),  # every resampler to the encoder's rate ends here
        (3800.0, (), True),
        (7100.0, (View("shape", 0, 8, high_hz=7000.0),), False),
        (3800.0, (View("shape", 0, 8, high_hz=3500.0),), False),
    ],
)
def test_an_encoder_that_hears_beyond_the_recordings_says_so(bandwidth, views, told):
    conditions = ConditionsInfo(bandwidth_range_hz=(bandwidth, 8000.0))
    assert bool(band_note(conditions, 16000, views)) == told
    assert band_note(ConditionsInfo(), 16000, views) == ""

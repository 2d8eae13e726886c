from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
import soundfile

from agent.report.charts import Histogram, loss_chart
from agent.report.page import TONES, Card, Number, Page
from agent.report.pictures import flac
from agent.verdict.verdict import LEVELS, Verdict
from trainer.report.paint import draw, loudest, spectrogram

RATE = 16000


def tone(hertz: float, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE)).astype(np.float32)


class Wellformed(HTMLParser):
    """Counts what is opened and not closed."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_a_page_needs_nothing_from_elsewhere_and_names_cannot_break_it():
    page = Page("pump <7>")
    page.verdict(Verdict("usable", '"found" & well', ("a <b>",), ("<i>more</i>",)), of="<x>")
    page.numbers((Number("<n>", "<4>", 'of "5"'),))
    page.first_chart("<p>", Histogram([1.0, 2.0], 1.5, "<clips>"))
    page.heading("<h>")
    page.text("<t>", note=True)
    page.heatmap(("<a>",), [[("<c>", 0.5)]])
    page.chart("<q>", loss_chart([3.0, 2.0]))
    page.table(("name", "value"), [("<script>alert(1)</script>", "1.5"), ("b", "-")])
    page.facts([("a", "<b>")])
    page.recordings([Card("<r>", "<u>", None, flac(tone(440), RATE), "bad")])
    page.shell("auscult run --config <file>")
    text = page.html()
    parser = Wellformed()
    parser.feed(text)
    assert parser.open == []
    assert "<script>alert" not in text
    for word in (
        "<x>",
        "a <b>",
        "<i>",
        "<n>",
        "<4>",
        '"<p>"',
        "<h>",
        "<t>",
        "<c>",
        "<q>",
        "<7>",
        "<r>",
        "<u>",
    ):
        assert word not in text, f"{word} was not escaped"
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    assert '<th class="number">value</th>' in text, "numbers stand to the right"
    assert "<th>name</th>" in text


def test_the_sound_inside_is_the_sound():
    page = Page("x")
    page.recordings([Card("hum", "", None, flac(tone(440), RATE))])
    (inside,) = re.findall(r"data:audio/flac;base64,([^\"]+)", page.html())
    heard, rate = soundfile.read(io.BytesIO(base64.b64decode(inside)))
    assert rate == RATE
    np.testing.assert_allclose(heard, tone(440), atol=1e-4)


def test_loudest_is_the_level_of_the_louder_sound():
    quiet, loud = tone(1000, 0.05), tone(1000, 0.5)
    assert loudest((quiet, loud)) == loudest((loud,))
    np.testing.assert_allclose(loudest((loud,)) - loudest((quiet,)), 20.0, atol=0.1)


def test_a_sound_shorter_than_a_frame_is_drawn():
    assert draw((3, 2), spectrogram(tone(440)[:100], RATE, "short")).startswith(b"\x89PNG")


@pytest.mark.parametrize("level", LEVELS)
def test_only_a_good_verdict_is_green(level):
    page = Page("x")
    page.verdict(Verdict(level, "finds 4 of 100 faults"))
    page.table(("verdict", "n"), [(level, "1")])
    text = page.html()
    assert f'<section class="verdict {TONES[level]}">' in text
    assert f'<td class="{TONES[level]}">{level}</td>' in text
    body = text.split("</style>")[1]
    assert ("good" in body) == (level == "good")
    assert len(set(TONES.values())) == len(LEVELS)


def test_an_answer_without_a_tone_is_no_verdict():
    page = Page("x")
    page.answer("heard 3 recordings")
    body = page.html().split("</style>")[1]
    assert 'class="level"' not in body
    assert "heard 3 recordings" in body


def test_templates_are_shipped_beside_the_module():
    folder = files("agent.report") / "templates"
    assert {"base.html", "page.html", "opening.html", "style.css"} <= {
        one.name for one in folder.iterdir()
    }


def test_a_sentence_that_begins_with_a_number_is_no_number():
    page = Page("title")
    page.table(
        ("count", "what"),
        [("2", "2 healthy recordings, 0.3 minutes: drift needs 32 windows of 10 s")],
    )
    html = page.html()
    assert '<th class="number">count</th>' in html
    assert '<th class="number">what</th>' not in html

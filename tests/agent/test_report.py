"""Reports as the device makes them: what they say, and that one file is all of it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import stat
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from support import healthy
from support.browser import find, open_browser, shown, violations

from agent.commands.learn import learn
from agent.hygiene.stage import inspect_machine
from agent.recordings.load import load_machines
from agent.report.charts import Heat, Histogram, Lines, Series, wall_seconds
from agent.report.machine import COLUMNS, heard_of, level_chart, spectrum_chart
from agent.report.page import Page


@pytest.fixture(scope="module", autouse=True)
def at_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("agent.collect.learning.NICENESS", 0)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Recordings of two days, one with a whistle that the others have not."""
    root = healthy.folder(tmp_path_factory.mktemp("data") / "pump", normal=10)
    for n, path in enumerate(sorted((root / "normal").iterdir())):
        path.rename(path.with_name(f"2026-03-0{2 + n // 5}_08-{n:02}-00.flac"))
    odd = sorted((root / "normal").iterdir())[3]
    sound, rate = soundfile.read(odd, dtype="float32")
    t = np.arange(len(sound)) / rate
    soundfile.write(odd, sound + 0.05 * np.sin(2 * np.pi * 2000 * t).astype(np.float32), rate)
    return root


@pytest.fixture(scope="module")
def report(data):
    out = data.parent / "pump.bundle"
    words = [str(data), "--out", str(out), "--untypical", "keep"]
    done = CliRunner().invoke(learn, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert f"look and listen: {data.parent / 'pump-report' / 'report.html'}" in done.output
    return data.parent / "pump-report"


@pytest.fixture(scope="module")
def inspection(data):
    return inspect_machine(load_machines(data)[0], untypical="keep")


def specs(page: str) -> list[dict]:
    """The charts' data, as the script reads them."""
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return [json.loads(one) for one in found]


def test_a_report_of_what_was_learnt_needs_nothing_else(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:)', page)
    assert not re.search(r"@import|url\((?!data:)", page)
    assert page.index('<section class="verdict') < page.index('<dl class="numbers"')
    assert page.index('<dl class="numbers"') < page.index('<figure class="drawn">')
    assert page.count("<dt>") == 3
    assert "Record next:" in page


def test_the_strangest_recording_stands_first_and_is_heard(report):
    page = (report / "report.html").read_text(encoding="utf-8")
    names = re.findall(r'data-recording="([^"]+)"', page)
    assert names[0] == "normal/2026-03-02_08-03-00.flac"
    assert page.count("data:audio/flac") == len(names) == 8
    assert "1 of 10; unlike all others" in page
    # It sets no threshold, and has no score; the others have, the strangest of them second.
    scores = next(one for one in specs(page) if one["kind"] == "lines" and one["level"])
    assert scores["wall"]
    values = [max(s["values"][n] or -9e9 for s in scores["series"]) for n in range(9)]
    assert scores["names"][values.index(max(values))] == names[1]


def test_the_same_stands_beside_it_as_json_and_csv(report):
    with (report / "recordings.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = json.loads((report / "report.json").read_text())
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 10
    (odd,) = [row for row in rows if row["untypical"] == "True"]
    assert (odd["recording"], odd["score"]) == ("normal/2026-03-02_08-03-00.flac", "")
    best = max(rows, key=lambda row: float(row["score"] or -9e9))
    assert best["recording"] == found["strangest"][0]["recording"]
    assert float(best["score"]) == pytest.approx(found["strangest"][0]["score"], abs=1e-3)
    # Sound that was recorded is for the one who learnt from it.
    assert stat.S_IMODE(report.stat().st_mode) == 0o700


def test_no_sound_is_put_into_it_where_none_is_wanted(data, tmp_path):
    words = [str(data), "--out", str(tmp_path / "b"), "--untypical", "keep", "--no-sound",
             "--report", str(tmp_path / "r")]  # fmt: skip
    assert CliRunner().invoke(learn, words, catch_exceptions=False).exit_code == 0
    page = (tmp_path / "r" / "report.html").read_text()
    assert "data:audio" not in page
    assert "data:image" not in page


def test_a_report_that_cannot_be_written_takes_no_bundle_back(data, tmp_path):
    (tmp_path / "r" / "report.html").mkdir(parents=True)  # in the way
    words = [str(data), "--out", str(tmp_path / "b"), "--untypical", "keep",
             "--report", str(tmp_path / "r")]  # fmt: skip
    done = CliRunner().invoke(learn, words, catch_exceptions=False)
    assert done.exit_code == 0
    assert "no report" in done.output
    assert (tmp_path / "b" / "manifest.json").is_file()


def test_what_a_band_has_more_of_is_seen_in_its_recording(inspection):
    heard = heard_of(inspection, None)
    assert [one.at for one in heard] == sorted(one.at for one in heard)
    chart = spectrum_chart(heard, inspection)
    assert isinstance(chart, Heat)
    column, band = np.unravel_index(np.argmax(chart.values), chart.values.shape)
    assert heard[column].name.endswith("08-03-00.flac")
    assert chart.edges_hz[band] <= 2000 <= chart.edges_hz[band + 1]
    assert chart.values[column, band] > 10


def test_levels_stand_at_the_times_that_names_tell(inspection):
    heard = heard_of(inspection, None)
    chart = level_chart(heard, inspection)
    assert chart.wall
    assert chart.x[0] == wall_seconds(datetime(2026, 3, 2, 8, 0)) + 5  # noqa: DTZ001
    first = inspection.known[heard[0].recording.path].levels_dbfs
    assert chart.series[0].values[0] == pytest.approx(first[0], abs=0.01)


def test_counts_of_a_histogram_are_all_scores():
    found = Histogram([0.0, 0.5, 100.0], 1.0, "clips", [2.0, 3.0]).data()
    up, down = (sum(group["counts"]) for group in found["groups"])
    assert (up, down) == (3, -2)
    assert found["edges"][0] < 1.0 < found["edges"][-1]


def test_a_name_in_a_chart_cannot_end_its_script():
    page = Page("x")
    name = "</script><script>alert(1)</script>"
    page.chart(name, Lines([1.0], (Series(name, [1.0]),), "x", "y", names=[name]))
    text = page.html()
    assert "<script>alert" not in text
    assert specs(text)[0]["names"] == [name]


def test_what_begins_with_a_number_is_one_only_without_a_sentence():
    page = Page("x")
    page.table(
        ("do", "what", "how much"),
        [("record", "1 more faulty clip", "7 of 9 (77.8 %, 40 to 97.2 %)")],
    )
    assert page.html().count('class="number"') == 2
    assert '<td class="number">7 of 9' in page.html()


def test_a_page_without_charts_has_no_script():
    page = Page("x")
    page.heading("h")
    assert "<script" not in page.html()


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


def look(browser, page: Path, width: int, scheme: str) -> None:
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get_log("browser")
    browser.get(page.as_uri())
    shown(browser, "output", "read")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_read_on_a_phone_and_in_the_dark(browser, report, width, scheme):
    look(browser, report / "report.html", width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    drawn = find(browser, "figure.drawn")
    assert len(drawn) == 4
    assert all(one.find_elements("css selector", ".u-wrap canvas") for one in drawn)
    assert browser.get_log("browser") == []
    assert violations(browser) == []


@pytest.mark.slow
def test_a_chart_is_read_by_keyboard_and_leads_to_the_sound(browser, report, tmp_path):
    from selenium.webdriver.common.keys import Keys

    # A file alone, in another place: nothing else is needed.
    alone = shutil.copy(report / "report.html", tmp_path / "alone.html")
    look(browser, Path(alone), 1280, "light")
    chart = find(browser, "figure.drawn .chart")[0]
    chart.send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 2)
    said = find(browser, "figure.drawn output")[0].text
    assert said.startswith("normal/2026-03-02_08-02-00.flac · Mar 2, 2026")
    assert "08:02" in said
    assert "threshold" in said
    chart.send_keys(Keys.ENTER)
    named = browser.execute_script("return document.activeElement.dataset.recording")
    assert named == "normal/2026-03-02_08-02-00.flac"
    names = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
    )
    assert all(name.startswith("data:") for name in names)

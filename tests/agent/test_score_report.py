"""The report of scored recordings: what it says, what stands beside it, and how its charts are read."""

from __future__ import annotations

import csv
import json
import re
import stat

import numpy as np
import pytest
from click.testing import CliRunner
from support.browser import find, open_browser, shown, sized, violations
from support.bundles import FAULTY_HZ, tone, write

from agent.commands.score import score
from agent.report.charts import Group, Scatter
from agent.report.page import Page


@pytest.fixture
def files(tmp_path):
    root = tmp_path / "sound"
    for n in range(3):
        write(root / "good" / f"{n}.wav", tone(3, seed=60 + n))
    write(root / "bad" / "</script>.wav", tone(3, FAULTY_HZ))
    write(root / f"broken_{'x' * 90}.wav", np.zeros(16000, np.float32))
    return root


def run(*arguments):
    return CliRunner().invoke(score, [str(one) for one in arguments], catch_exceptions=False)


def specs(page: str) -> list[dict]:
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)
    return [json.loads(one) for one in found]


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_the_strangest_stands_first_and_is_heard(files, tiny_bundle, tmp_path):
    out = tmp_path / "report"
    result = run("--bundle", tiny_bundle, files, "--hop", 1, "--report", out)
    assert result.exit_code == 1  # one holds silence
    assert f"look and listen: {out / 'report.html'}" in result.stderr
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "1 of 4 recordings is anomalous; 1 could not be scored." in page
    assert page.index('<section class="verdict bad') < page.index('<dl class="numbers"')
    assert page.index('<dl class="numbers"') < page.index('<figure class="drawn">')
    names = re.findall(r'data-recording="([^"]+)"', page)
    assert names[0] == "bad/&lt;/script&gt;.wav"
    assert sorted(names[1:]) == [f"good/{n}.wav" for n in range(3)]
    assert page.count("data:audio/flac") == 4
    assert "no window could be judged" in page
    by_recording, *over_time = specs(page)
    assert by_recording["names"] == ["bad/</script>.wav", *(f"good/{n}.wav" for n in range(3))]
    assert by_recording["level"] == [1.0, "threshold"]
    strange = next(one for one in by_recording["series"] if one["name"] == "anomalous")
    assert [value is not None for value in strange["values"]] == [True, False, False, False]
    assert len(over_time) == 3
    assert stat.S_IMODE(out.stat().st_mode) == 0o700


def test_the_same_stands_beside_it(files, tiny_bundle, tmp_path):
    out = tmp_path / "report"
    run("--bundle", tiny_bundle, files, "--report", out, "--json", tmp_path / "also.json")
    document = json.loads((out / "report.json").read_text())
    assert document == json.loads((tmp_path / "also.json").read_text())
    recordings, windows = rows(out / "recordings.csv"), rows(out / "windows.csv")
    assert [row["recording"] for row in recordings] == [one["path"] for one in document["files"]]
    assert [row["verdict"] for row in recordings] == ["anomalous", "invalid", *["normal"] * 3]
    assert [float(row["score"]) for row in recordings if row["score"]] == pytest.approx(
        [one["score"] for one in document["files"] if one["score"] is not None]
    )
    assert len(windows) == sum(len(one["windows"]) for one in document["files"])


def test_one_recording_is_shown_window_by_window(files, tiny_bundle, tmp_path):
    result = run("--bundle", tiny_bundle, files / "good/1.wav", "--report", tmp_path, "--no-sound")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The recording is not anomalous." in page
    assert '<section class="verdict good' in page
    assert "data:audio" not in page
    assert specs(page)[0]["x_words"] == "window from, seconds"


def test_a_report_that_cannot_be_written_is_told(files, tiny_bundle, tmp_path):
    where = tmp_path / "report"
    (where / "report.html").mkdir(parents=True)
    result = CliRunner().invoke(
        score, ["--bundle", str(tiny_bundle), str(files / "good"), "--report", str(where)]
    )
    assert "report.html: cannot be written" in str(result.exception)


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_read_on_a_phone_and_in_the_dark(
    browser, files, tiny_bundle, tmp_path, width, scheme
):
    run("--bundle", tiny_bundle, files, "--report", tmp_path)
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
    sized(browser, width)
    browser.get_log("browser")
    browser.get((tmp_path / "report.html").as_uri())
    shown(browser, "output", "read")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert len(find(browser, "figure.drawn .u-wrap canvas")) == 4
    assert browser.get_log("browser") == []
    assert violations(browser) == []


@pytest.mark.slow
def test_a_point_of_a_plane_is_read_by_where_it_lies(browser, tmp_path):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    corners = np.array([[0, 0], [0, 1], [1, 0]], np.float32)
    page = Page("x")
    page.chart("plane", Scatter(
        (Group("bank", corners, "plain", ["low left", "high left", "low right"]),
         Group("anomaly", np.array([[1, 1]], np.float32), "faulty", ["high right"])),
        "first", "second",
    ))  # fmt: skip
    page.text(f"learnt from ({'long_' * 30}.wav): a name without a space")
    page.table(("do", "what"), [("mend", f"({'long_' * 30}.wav): rename it")])
    sized(browser, 390)
    browser.get_log("browser")
    browser.get(page.write(tmp_path / "plane.html").as_uri())
    shown(browser, "output", "4 points")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    table = find(browser, "table.plain")[0]
    assert table.size["width"] <= find(browser, ".wide")[0].size["width"]
    sized(browser, 1280)
    shown(browser, "output", "Point at it")
    over = find(browser, ".u-over")[0]
    wide, high = over.size["width"] // 2 - 60, over.size["height"] // 2 - 30
    for x, y, name in ((-1, -1, "high left"), (-1, 1, "low left"), (1, -1, "high right · anomaly"),
                       (1, 1, "low right · bank")):  # fmt: skip
        ActionChains(browser).move_to_element_with_offset(over, x * wide, y * high).perform()
        shown(browser, "output", name)
    chart = find(browser, ".chart")[0]
    said = set()
    chart.send_keys(Keys.HOME)
    for _ in range(4):
        said.add(find(browser, "output")[0].text.split(" ·")[0])
        chart.send_keys(Keys.ARROW_RIGHT)
    assert said == {"low left", "high left", "low right", "high right"}
    assert browser.get_log("browser") == []
    assert violations(browser) == []

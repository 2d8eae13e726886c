"""The page that sums a plant's build up, in a real browser: worst first, on a phone, in the dark."""

from __future__ import annotations

import pytest
from support.browser import find, open_browser, photograph, shown, sized, violations

from plant.learn.build import Built, badness
from plant.learn.summary import write_summary
from plant.learn.task import Outcome

pytestmark = pytest.mark.slow
SHARED = {
    "judged_on": "test recordings", "hmean": 0.9, "threshold": 0.5, "caveat": "", "recordings": 24,
    "hours": 1.5, "preset": "auscult_small", "precision": "int8", "bytes": 21_000_000,
    "encoder_sha256": "e" * 64, "signed": True, "notes": [], "record": [],
}  # fmt: skip


def learnt(name: str, level: str, caught: int, false_alarms: int, **more: object) -> Outcome:
    figures = {
        **SHARED, "level": level, "verdict": f"{caught} of 20 faults are found", "faults": 20,
        "found": caught, "healthy": 40, "false_alarms": false_alarms,
        "false_alarm_share": false_alarms / 40, **more,
    }  # fmt: skip
    return Outcome(
        machine=name, state="built", digest="a" * 64, node="node-7", seconds=81.2, figures=figures
    )


OUTCOMES = (
    learnt("compressor-with-a-long-name-in-hall-12", "good", 20, 0),
    learnt("fan3", "usable", 15, 2, notes=["two recordings are of another rate"]),
    learnt("fan4", "usable", 12, 1, caveat="set by 5 recordings"),
    learnt("pump1", "do not deploy", 3, 9),
    learnt("pump2", "cannot tell", 0, 0, faults=None, found=None, healthy=None, hmean=None),
    learnt("press9", "ruined", 2, 30, verdict="INT8 gives other answers than the float graph"),
    Outcome(
        machine="lost", state="failed", node="node-1", seconds=0.3,
        reason="/srv/recordings/very/long/path/of/a/plant/that/does/not/break/nowhere: there are no "
        "recordings: no such file or folder. Mend `data` of the machine.",
    ),
)  # fmt: skip
ORDER = (
    "lost",
    "press9",
    "pump1",
    "pump2",
    "fan4",
    "fan3",
    "compressor-with-a-long-name-in-hall-12",
)


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


@pytest.fixture
def page(browser, tmp_path):
    (tmp_path / "logs").mkdir()
    for one in OUTCOMES:
        (tmp_path / f"logs/{one.machine}.log").write_text("$ auscult train\n")
    built = Built(tuple(sorted(OUTCOMES, key=badness)), tmp_path, 105_000_000)
    browser.get(f"file://{write_summary(built, 'hall-2')}")
    shown(browser, "h1", "hall-2")
    return browser


def test_machines_are_there_the_worst_first_with_what_is_wrong(page):
    assert tuple(one.text for one in find(page, "tbody th b")) == ORDER
    first = find(page, "tbody tr")[0].text
    assert "failed" in first
    assert "there are no recordings" in first
    assert find(page, "tbody tr")[4].text.count("12 of 20") >= 1
    links = [one.get_attribute("href") for one in find(page, "tbody a")]
    assert sum(link.endswith(".log") for link in links) == len(OUTCOMES)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_amiss_and_a_phone_shows_all(page, scheme):
    page.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    photograph(page, f"plant-summary-{scheme}")
    sized(page, 390)
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390
        # What the verdict rests on is told on a small screen, too.
        assert "test recordings" in find(page, "tbody tr")[1].text
        narrow = violations(page)
    finally:
        sized(page, 0)
    assert narrow + violations(page) == []

"""Every machine at once: the day of each, what happened last, and the minute that was just heard."""

from __future__ import annotations

import json
import time

import httpx
import numpy as np
import pytest
import yaml
from support.browser import click, find, open_browser, shown, sized, violations
from support.bundles import FAULTY_HZ, tone, write
from support.page import Running, page_config, until

from agent.web.sound import BANDS, COLUMN_SECONDS, columns_of


def several(folder, bundle):
    """Three machines in one configuration: healthy, faulty, healthy."""
    path = page_config(folder, bundle, [])
    config = yaml.safe_load(path.read_text())
    (one,) = config["machines"]
    config["machines"] = []
    for name, hertz in (("fan", 440), ("pump", FAULTY_HZ), ("press", 440)):
        write(folder / f"{name}.wav", tone(20, hertz, seed=len(name)))
        source = {**one["source"], "paths": [f"{name}.wav"]}
        config["machines"].append({**one, "name": name, "source": source})
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    with Running(several(tmp_path_factory.mktemp("several"), tiny_bundle)) as found:
        until(
            lambda: found.agent.page.live.latest().get("pump", {}).get("alarm", {}).get("alarm_id")
        )
        yield found


def test_the_day_of_every_machine_and_what_happened_last(running):
    found = httpx.get(f"{running.url}/api/overview").json()["machines"]
    assert list(found) == ["fan", "pump", "press"]
    pump, fan = found["pump"], found["fan"]
    assert len(pump["most"]) == len(pump["level"]) == 96
    assert pump["level"][-1] == 2
    assert pump["most"][-1] > 1.0 > fan["most"][-1]
    assert fan["level"][-1] == 0
    assert (pump["last"]["area"], pump["last"]["event"]) == ("alarm", "raised")
    assert fan["last"] is None


def test_the_stream_begins_with_the_minute_that_was_just_heard(running):
    until(lambda: running.agent.extensions.recent("pump", 60.0).seconds > 3)
    with httpx.stream("GET", f"{running.url}/api/stream", params={"sound": "pump"}) as stream:
        lines = stream.iter_lines()
        past = next(json.loads(one[6:]) for one in lines if one.startswith("data: ")
                    and '"past":true' in one)  # fmt: skip
        heard = next(json.loads(one[6:]) for one in lines if one.startswith("data: ")
                     and '"columns"' in one and '"past"' not in one)  # fmt: skip
    times = [column["time"] for column in past["columns"]]
    assert len(times) >= 25
    assert np.allclose(np.diff(times), COLUMN_SECONDS, atol=0.02)
    assert 0 <= heard["columns"][0]["time"] - times[-1] < 2


def test_a_muting_while_all_is_normal_is_remembered_as_what_held_an_alarm_back(running):
    """It has no alarm's id, and was lost: a question about that time was answered "healthy"."""
    act, now = {"X-Auscult": "1"}, time.time()
    ask = {"transaction": "o1", "machine": "press", "seconds": 60, "operator": "B. Nowak",
           "comment": "new bearing"}  # fmt: skip
    muted = httpx.post(f"{running.url}/api/commands/mute", json=ask, headers=act)
    assert muted.status_code == 200, muted.text
    stretch = {"transaction": "o2", "machine": "press", "begin": now - 30, "end": now + 5}
    found = httpx.post(f"{running.url}/api/commands/why", json=stretch, headers=act).json()[
        "result"
    ]
    assert found["held"][0].startswith("It was muted by B. Nowak (new bearing) from ")
    assert found["verdict"]
    back = {"transaction": "o3", "machine": "press", "seconds": 0}
    httpx.post(f"{running.url}/api/commands/mute", json=back, headers=act)


def test_columns_of_a_stretch_are_those_that_are_told_live():
    columns = columns_of(tone(2.05, 1000), 8000, 100.0)
    assert len(columns) == 20
    assert [columns[0].wall, columns[-1].wall] == pytest.approx([100.0, 101.9])
    assert (np.argmax(list(columns[7].bands)) + 0.5) / BANDS * 4000 == pytest.approx(1000, abs=50)


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


@pytest.mark.slow
def test_the_worst_machine_is_first_and_what_stands_is_counted(browser, running):
    browser.get(running.url)
    first = shown(browser, ".cards > li:first-child", "Alarm")
    assert first.get_attribute("data-machine") == "pump"
    assert "Now zone D" in first.text
    assert "not acknowledged" in first.text
    until(lambda: int(find(browser, ".cards canvas.spark")[0].get_attribute("data-points") or 0))
    until(lambda: browser.title.startswith("(1) "))
    assert find(browser, "#standing")[0].text.startswith("1")
    # The latest window's zone beside a standing alarm is another moment's: "Zone A, Alarm" it said.
    shown(browser, "li[data-machine=fan] .zone", "Zone")
    # The alarm of one machine is seen wherever one is: it said "None" while others were looked at.
    shown(browser, "#alarms li[data-machine=pump] a", "pump")
    click(browser, "#alarms button", "Play")
    until(lambda: browser.execute_script(
        "return document.querySelector('#alarms audio')?.duration > 1"))  # fmt: skip
    until(lambda: browser.execute_script(
        "return document.querySelector('#alarms img.thumb')?.naturalWidth") == 180)  # fmt: skip
    browser.get(f"{running.url}/#alarms/fan")
    shown(browser, ".card", "None here")
    browser.execute_script(
        "const s = document.querySelector('[name=machine]'); s.value = '';"
        "s.dispatchEvent(new Event('change'))"
    )
    shown(browser, "#alarms a", "pump")
    browser.get(f"{running.url}/#overview")
    click(browser, "[data-machine=pump] [data-act=ack]")
    shown(browser, ".cards > li:first-child", ", acknowledged")


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["overview", "alarms", "live/pump", "why/pump", "collect/pump", "setup/pump"]
)
def test_a_phone_shows_all_of_it(browser, running, page):
    sized(browser, 390)
    try:
        browser.get(f"{running.url}/#{page}")
        browser.refresh()
        shown(browser, ".link.on", "connected")
        shown(browser, "main h2")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        for tile in browser.execute_script(
            "return [...document.querySelectorAll('.tiles > .wide:not([hidden])')]"
            ".map(e => e.getBoundingClientRect().width / e.parentNode.clientWidth)"
        ):
            assert tile > 0.95
        # A heading beside buttons had a letter a line.
        for heading in find(browser, "main h2, main h3"):
            if heading.is_displayed():
                assert heading.size["width"] > min(120, 12 * len(heading.text)), heading.text
    finally:
        sized(browser, 0)


@pytest.mark.slow
def test_a_finger_is_offered_no_arrow_keys(browser, running):
    browser.execute_cdp_cmd(
        "Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1}
    )
    sized(browser, 390)
    try:
        browser.get("about:blank")
        browser.get(f"{running.url}/#live/pump")
        shown(browser, "#score-read", "Touch it to read")
        assert "rrow keys" not in find(browser, "main")[0].text
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
        sized(browser, 0)


@pytest.mark.slow
def test_times_are_marked_where_a_clock_on_the_wall_has_marks(browser, running):
    browser.get(running.url)
    shown(browser, ".link.on", "connected")
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "import('./static/charts/ticks.js').then(({ timeTicks }) => done([[3600, 8], [86400, 9],"
        " [31 * 86400, 7], [366 * 86400, 8], [60, 5], [3600, 3]].map(([span, most]) =>"
        " timeTicks(1700001234 - span, 1700001234, most).map(t => { const d = new Date(t * 1000);"
        " return [d.getMonth(), d.getDate(), d.getHours(), d.getMinutes(), d.getSeconds()]; }))))"
    )
    hour, day, month, year, minute, narrow = found
    assert {tuple(one[3:]) for one in hour} <= {(m, 0) for m in range(0, 60, 10)}
    assert {tuple(one[2:]) for one in day} <= {(h, 0, 0) for h in range(0, 24, 3)}
    assert all(one[2:] == [0, 0, 0] for one in month)
    assert all(one[1:] == [1, 0, 0, 0] for one in year)
    assert all(one[4] % 15 == 0 for one in minute)
    assert [one[3:] for one in narrow] == [one[3:] for one in narrow if one[3] % 30 == 0]
    assert all(2 <= len(one) <= 10 for one in found)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_accessible(browser, running, scheme):
    (alarm,) = httpx.get(f"{running.url}/api/alarms").json()["alarms"]
    pages = ["overview", "live/pump", "alarms", f"alarms/pump/{alarm['alarm_id']}", "why/pump",
             "collect/pump", "setup/pump"]  # fmt: skip
    media = [{"name": "prefers-color-scheme", "value": scheme}]
    try:
        for width in (390, 1280):
            sized(browser, width)
            for page in pages:
                browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
                browser.get("about:blank")
                browser.get(f"{running.url}/#{page}")
                shown(browser, ".link.on", "connected")
                shown(browser, "main h2")
                assert violations(browser) == [], (page, width)
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
        sized(browser, 0)

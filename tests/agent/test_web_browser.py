"""The page in a real browser, against a live agent that hears a replayed stream."""

from __future__ import annotations

import json
import re
import time

import httpx
import pytest
import yaml
from support.browser import click, find, open_browser, shown, sized
from support.bundles import FAULTY_HZ, write
from support.levelled import build_levelled_bundle, machine
from support.page import Running, page_config, until

from agent.commission.memory import commission_file, commission_state

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    folder = tmp_path_factory.mktemp("browser")
    path = page_config(folder, tiny_bundle, [(12, 440), (10, FAULTY_HZ), (60, 440)])
    with Running(path) as found:
        until(lambda: found.agent.pipelines[0].counters.windows > 1)
        yield found


def colours(browser, css):
    """How many different colours a canvas shows."""
    return browser.execute_script(
        "const c = document.querySelector(arguments[0]); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height).data; const s = new Set();"
        "for (let i = 0; i < d.length; i += 4) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);"
        "return s.size",
        css,
    )


@pytest.fixture(autouse=True)
def no_errors(browser):
    browser.get_log("browser")
    yield
    # That the agent has ended is asked by pages still open, and is none of theirs.
    faults = [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    assert [one for one in faults if "ERR_CONNECTION_REFUSED" not in one["message"]] == []


def points(browser):
    return int(find(browser, "#score")[0].get_attribute("data-points") or 0)


def test_an_alarm_is_seen_to_rise_heard_and_acknowledged(browser, running):
    browser.get(running.url)
    shown(browser, ".link.on", "connected")
    before = until(lambda: points(browser))
    until(lambda: points(browser) > before + 2)
    until(lambda: colours(browser, "canvas.spectrogram") > 20)
    until(lambda: colours(browser, "canvas.meter") > 3)
    assert "dBFS" in shown(browser, "section .figure", "RMS").text
    shown(browser, ".tile.alarm", "Alarm", seconds=40)
    shown(browser, ".list .badge.alarm", "raised")
    find(browser, "#operator")[0].send_keys("A. Meier\t")
    click(browser, "[data-act=ack]")
    shown(browser, ".tile", "· acknowledged")
    events = [told.message["data"] for told in running.agent.page.live.events()]
    (told,) = [data for data in events if data["event"] == "acknowledged"]
    assert told["operator"] == "A. Meier"


def test_the_past_is_read_by_keyboard(browser, running):
    browser.get(f"{running.url}/#live/pump")
    browser.refresh()
    shown(browser, ".link.on", "connected")
    until(lambda: points(browser) > 3)
    from selenium.webdriver.common.keys import Keys

    graph = find(browser, "#score")[0]
    graph.send_keys(Keys.END)
    last = find(browser, "#score-read")[0].text
    assert re.search(r"threshold 1\b", last)
    graph.send_keys(Keys.HOME)
    first = find(browser, "#score-read")[0].text
    assert re.search(r"threshold 1\b", first)
    assert first != last
    # Zero is named as well, whatever the scale.
    assert "0" in graph.get_attribute("data-marks").split()
    assert "\u2013" not in graph.get_attribute("data-marks")
    # Marked at times that a clock on the wall shows.
    marks = json.loads(graph.get_attribute("data-ticks"))
    assert marks
    assert all(one % 60 == 0 for one in marks)
    for name in ("Day", "Month", "Year", "Hour"):
        shown(browser, "button[aria-pressed]", name).click()
        shown(browser, "button[aria-pressed=true]", name)
        shown(browser, "#score-read", "points")


def test_an_alarm_is_opened_played_and_answered(browser, running):
    until(lambda: list((running.agent.config.state_path / "evidence/pump").glob("*/evidence.json")))
    browser.get(f"{running.url}/#alarms/pump")
    operator = shown(browser, "#operator")
    operator.clear()
    operator.send_keys("A. Meier\t")
    browser.refresh()
    click(browser, "#alarms a")
    shown(browser, "h2", "What was heard")
    # The upright line lies where the alarm was raised, on axes of the page's own.
    until(lambda: find(browser, "canvas.plot[data-drawn]"))
    until(lambda: colours(browser, "canvas.plot") > 20)
    seconds = until(lambda: browser.execute_script(
        "return document.querySelector('audio').duration"))  # fmt: skip
    assert seconds > 2
    click(browser, "[data-act=normal]")
    click(browser, "dialog[open] button.main")
    shown(browser, "dd", "normal by A. Meier")
    # The second step is there at once, and says how it went.
    click(browser, "[data-act=join]", "Add its sound")
    shown(browser, "dl dd", "in the bank since version")
    assert not find(browser, "#join-job")
    browser.get(f"{running.url}/#collect/pump")
    shown(browser, "#job", "adding 0 sessions and 1 alarm")
    assert "[object" not in find(browser, "main")[0].text


def test_why_there_was_no_alarm_is_answered_for_a_stretch(browser, running):
    browser.get(f"{running.url}/#live/pump")
    browser.refresh()
    click(browser, "[data-act=why]")
    shown(browser, "#why-facts", "where 1 is the threshold")
    until(lambda: int(find(browser, "#why-score")[0].get_attribute("data-points") or 0))
    # A stretch in which nothing was heard: said, and not called healthy.
    browser.get(f"{running.url}/#why/pump/1700000000/1700000600")
    shown(browser, ".verdict", "Nothing was heard")
    assert "0 s of 600 s" in shown(browser, "#why-facts", "Heard").text
    # What an operator asked for is named, with the time of here.
    now = time.time()
    ask = {"transaction": "m1", "machine": "pump", "seconds": 60, "operator": "B. Nowak",
           "comment": "new bearing"}  # fmt: skip
    answer = httpx.post(f"{running.url}/api/commands/mute", json=ask, headers={"X-Auscult": "1"})
    assert answer.status_code == 200, answer.text
    browser.get(f"{running.url}/#why/pump/{now - 30:.0f}/{now + 5:.0f}")
    held = shown(browser, "#why-held li", "muted by B. Nowak (new bearing)").text
    assert not re.search(r"\dT\d\d:", held)
    undo = {**ask, "transaction": "m2", "seconds": 0}
    httpx.post(f"{running.url}/api/commands/mute", json=undo, headers={"X-Auscult": "1"})


def test_sound_is_collected_listed_and_deleted(browser, running):
    browser.get(f"{running.url}/#collect/pump")
    browser.refresh()
    field = shown(browser, "[name=seconds]")
    operator = find(browser, "#operator")[0]
    operator.clear()
    operator.send_keys("A. Meier\t")
    field.clear()
    field.send_keys("300")
    click(browser, "#record button.main")
    shown(browser, "#running", "of 300 s healthy")
    until(
        lambda: (
            running.agent.extensions.collector.observers["pump"].recording.result().kept_seconds > 0
            or running.agent.extensions.collector.observers["pump"].recording.result().heard_seconds
            >= 3
        )
    )
    click(browser, "#stop")
    row = shown(browser, "#sessions tbody tr", "healthy")
    assert "stopped by A. Meier" in row.text
    click(browser, "#sessions button.danger")
    click(browser, "dialog[open] button.main")
    until(lambda: not find(browser, "#sessions tbody tr") and not find(browser, "dialog"))


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("page", ["live", "alarms", "why", "collect"])
def test_nothing_is_wider_than_the_screen_and_all_is_named(browser, running, page, width):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        browser.get(f"{running.url}/#{page}/pump")
        browser.refresh()
        shown(browser, ".link.on", "connected")
        shown(browser, "main h2")
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= width
        unnamed = browser.execute_script(
            "return [...document.querySelectorAll('button,a,input,select,canvas,img,audio')]"
            ".filter(e => !e.hidden && !e.closest('[aria-hidden=true]') && !(e.textContent.trim() || e.getAttribute('aria-label')"
            " || e.getAttribute('alt') !== null || e.labels?.length)).map(e => e.outerHTML)"
        )
        assert unnamed == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_it_is_light_and_asks_no_other_host(browser, running):
    browser.get(running.url)
    browser.refresh()
    shown(browser, ".link.on", "connected")
    entries = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => [e.name, e.decodedBodySize])"
    )
    assert all(name.startswith(running.url) for name, _ in entries)
    assert (
        sum(size for name, size in entries if "/static/" in name) < 200_000
    )  # of it 53,000 are uPlot


def test_a_name_without_a_space_fits_a_phone(browser, running):
    """DCASE's names of recordings have sixty letters, and stand in events and at alarms."""
    sized(browser, 390)
    try:
        browser.get(f"{running.url}/#alarms/pump")
        browser.refresh()
        click(browser, "#alarms a")
        shown(browser, "h2", "What was heard")
        browser.execute_script(
            "const name = 'train/section_00_source_train_normal_0000_load_low_valve_open.wav';"
            "for (const one of document.querySelectorAll('main h3, main p, main li, main dd'))"
            " one.append(name)"
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        sized(browser, 0)


def test_a_louder_machine_is_named_and_the_moved_microphone_answered(browser, tmp_path):
    bundle = build_levelled_bundle(tmp_path / "bundle")
    path = page_config(tmp_path, bundle, [], jsonl="out.jsonl")
    write(tmp_path / "sound" / "0.wav", machine(60, seed=60, gain_db=6))
    with Running(path) as found:
        browser.get(found.url)
        shown(browser, ".link.on", "connected")
        shown(browser, ".tile.good", "As in training")
        shown(browser, ".tile.alert", "6 dB louder in every band", seconds=40)
        shown(browser, ".list .badge.alert", "level")
        assert "Normal" in shown(browser, ".tile.good", "1 is the threshold").text
        operator = find(browser, "#operator")[0]
        operator.clear()
        operator.send_keys("A. Meier\t")
        click(browser, "[data-act=level]")
        click(browser, "dialog button.main")
        shown(browser, ".tile.good", "As taken anew", seconds=30)
        assert "dB taken off: A. Meier" in shown(browser, ".tile.good", "taken off").text
        until(lambda: found.agent.pipelines[0].counters.score is not None)
        until(lambda: found.agent.page.live.latest()["pump"]["score"]["score"] < 1.0)
        click(browser, "[data-act=level-undo]")
        shown(browser, ".tile", "As in training")


def test_a_commissioned_machine_is_answered_and_goes_live(browser, tmp_path, tiny_bundle):
    path = page_config(tmp_path, tiny_bundle, [(12, 440), (8, FAULTY_HZ), (14, 440)], jsonl="o")
    config = yaml.safe_load(path.read_text())
    config["machines"][0]["commission"] = {"running_hours": 1}
    config["machines"][0]["decide"]["latch"] = False
    path.write_text(yaml.safe_dump(config))
    with Running(path) as found:
        commission = found.agent.pipelines[0].commission
        browser.get(found.url)
        shown(browser, ".link.on", "connected")
        shown(browser, ".tile", "commissioning: 0.0 of 1 hours")
        assert find(browser, "[data-act=all-normal]") == []
        # A fault is heard, and no alarm told: it is listed, and answered.
        shown(browser, ".tile", "1 not answered", seconds=60)
        assert found.agent.page.live.latest()["pump"]["alarm"]["level"] == "normal"
        browser.get(f"{found.url}/#alarms/pump")
        shown(browser, "#alarms a", seconds=30)
        browser.get(f"{found.url}/#live/pump")
        operator = shown(browser, "#operator")
        operator.clear()
        operator.send_keys("A. Meier\t")
        until(lambda: list((tmp_path / "state/evidence/pump").glob("*/evidence.json")))
        click(browser, "[data-act=all-normal]")
        click(browser, "dialog[open] button.main")
        until(lambda: [one.answer for one in commission.said()][:1] == ["healthy"])
        click(browser, "[data-act=live]")
        click(browser, "dialog[open] button.main")
        until(lambda: not commission.listening)
        file = commission_state(commission_file(tmp_path / "state", "pump"))
        until(lambda: "A. Meier" in file.load().how)  # written down once it is so
        until(lambda: find(browser, "[data-act=live]") == [])

"""The plant's page in a real browser: logged in, an alarm acknowledged, trends, users, a phone."""

from __future__ import annotations

import time

import pytest
from support.broker import Broker
from support.browser import click, find, open_browser, photograph, shown, sized, violations
from support.plant import Device, alarm, event, listening, moment, plant_file, score, until

from plant.store.database import Database
from plant.store.migrate import migrate
from plant.store.users import Users
from plant.watch.file import load_serve
from plant.web.server import PageServer

pytestmark = pytest.mark.slow
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def browser():
    found = open_browser()
    yield found
    found.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plant")
    with Broker(folder / "broker") as broker:
        config = load_serve(
            plant_file(folder, broker.port, watch={"sites": {"hall-1": ["gateway-1"]}})
        )
        database = Database(config.database.url)
        migrate(database)
        Users(database).put("anna", "admin", PASSWORD)
        with (
            listening(config, database) as ingest,
            Device(broker.port, "gateway-1") as device,
            Device(broker.port, "gateway-2") as other,
        ):
            server = PageServer(config, database, ingest)
            server.start()
            device.say("status", {"device": "gateway-1", "status": "online", "time": moment(0)})
            device.say("fan/alarm", alarm("gateway-1", "fan", 1, level="normal", alarm_id=None))
            device.say("pump/event", event("gateway-1", "pump", 1))
            device.say("pump/alarm", alarm("gateway-1", "pump", 1, reason={"text": "a new tone"}))
            now = time.time()
            for second in range(0, 86_400, 600):
                at = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(now - second))
                value = 0.3 + 0.4 * (second % 7200) / 7200
                device.say(
                    "pump/score",
                    {**score("gateway-1", "pump", 0, value), "time": at}, qos=0, wait=False,
                )  # fmt: skip
            other.say("status", {"device": "gateway-2", "status": "offline", "time": None})
            other.say("press/event", event("gateway-2", "press", 1))
            other.say("press/event", event("gateway-2", "press", 5))
            device.url = f"http://127.0.0.1:{server.port}/"
            device.other = other
            until(lambda: ingest.counts.events >= 3)
            yield device
            server.stop()
        database.close()


@pytest.fixture(autouse=True)
def no_errors(browser):
    browser.get_log("browser")
    yield
    faults = [one for one in browser.get_log("browser") if one["level"] == "SEVERE"]
    # A wrong password is answered with 403, which the browser tells as an error of its own.
    assert [one for one in faults if "403" not in one["message"]] == []


def log_in(browser, page):
    browser.get(page.url)
    shown(browser, "h1, #machines")
    if not find(browser, "#name"):
        return
    find(browser, "#name")[0].send_keys("anna")
    find(browser, "#password")[0].send_keys(PASSWORD)
    click(browser, "button.main", "Log in")
    shown(browser, ".link.on", "connected")


def test_who_has_no_password_stays_outside(browser, page):
    browser.get(page.url)
    shown(browser, "h1", "Log in")
    find(browser, "#name")[0].send_keys("anna")
    find(browser, "#password")[0].send_keys("guess-guess")
    click(browser, "button.main", "Log in")

    shown(browser, "#notice .bad", "do not go together")
    assert not find(browser, "#machines")


def test_an_alarm_is_acknowledged_and_the_answer_is_shown(browser, page):
    log_in(browser, page)
    first = shown(browser, "#machines tbody tr")
    assert first.get_attribute("data-machine") == "gateway-1/pump"
    click(browser, "nav a", "Alarms")
    shown(browser, "#inbox li", "a new tone")
    click(browser, "#inbox [data-act=ack]")
    (command, asked) = until(lambda: page.heard)[-1]
    assert (command, asked["operator"], asked["alarm_id"]) == ("ack", "anna", "a1")
    shown(browser, "#commands li", "waits for the device")
    page.answer(command, asked)
    page.say("pump/alarm", alarm("gateway-1", "pump", 2, acknowledged=True))
    shown(browser, "#inbox li", ", acknowledged")
    shown(browser, "#commands li", "done")
    assert not find(browser, "#inbox [data-act=ack]")


def test_an_alarm_that_is_raised_comes_by_itself(browser, page):
    log_in(browser, page)
    click(browser, "nav a", "Alarms")
    shown(browser, "#inbox")
    page.say("fan/alarm", alarm("gateway-1", "fan", 9, alarm_id="a9", reason={"text": "knocks"}))
    shown(browser, "#inbox li[data-alarm=a9]", "knocks", seconds=10)
    page.say("fan/alarm", alarm("gateway-1", "fan", 10, level="normal", alarm_id=None))
    until(lambda: not find(browser, "#inbox li[data-alarm=a9]"), 10)


def test_alarms_are_found_by_name_and_state_also_those_of_a_device_that_is_away(browser, page):
    log_in(browser, page)
    click(browser, "nav a", "Alarms")
    page.say("fan/alarm", alarm("gateway-1", "fan", 11, alarm_id="a11"))
    page.other.say("press/alarm", alarm("gateway-2", "press", 6, alarm_id="p1"))
    shown(browser, "#inbox li[data-alarm=a11]")
    found = shown(browser, "#inbox li[data-alarm=p1]", "Alarm, not acknowledged")
    assert "the device is offline" in found.text
    find(browser, "input[type=search]")[0].send_keys("PRESS")
    until(lambda: not find(browser, "#inbox li[data-alarm=a11]"))
    assert find(browser, "#inbox li[data-alarm=p1]")
    shown(browser, "section [role=status]", "1 to 1 of 1")
    click(browser, "[name=state] option", "shelved")
    until(lambda: not find(browser, "#inbox li"))
    # It appears by itself when it is shelved.
    until_ = moment(10**6)
    told = alarm("gateway-2", "press", 7, alarm_id="p1", shelving="timed", shelved_until=until_)
    page.other.say("press/alarm", told)
    shown(browser, "#inbox li[data-alarm=p1]", "shelved")
    for device, machine, second in ((page, "fan", 12), (page.other, "press", 8)):
        over = alarm(device.name, machine, second, level="normal", alarm_id=None)
        device.say(f"{machine}/alarm", over)
    until(lambda: not find(browser, "#inbox li[data-alarm=p1]"), 15)


@pytest.mark.parametrize("where", ["machines", "alarms"])
def test_what_changes_before_the_first_page_is_there_breaks_nothing(browser, page, where):
    log_in(browser, page)
    name = {"machines": "MachinesView", "alarms": "InboxView"}[where]
    told = browser.execute_async_script(
        "const [name, done] = arguments;"
        "import('./static/views.js').then((views) => {"
        "  const view = new views[name]({ sites: [], role: 'admin' }, []);"
        "  view.show(document.createElement('div')).catch(() => {});"
        "  try { view.machines([{ id: 1, alarm_id: 'a' }]); done('well'); }"
        "  catch (fault) { done(String(fault)); }"
        "});",
        name,
    )
    assert told == "well"


def test_devices_are_found_by_name_and_state(browser, page):
    log_in(browser, page)
    click(browser, "nav a", "Devices")
    until(lambda: len(find(browser, "tbody tr")) == 2)
    find(browser, "input[type=search]")[0].send_keys("y-2")
    until(lambda: len(find(browser, "tbody tr")) == 1)
    click(browser, "[name=state] option", "any")
    find(browser, "input[type=search]")[0].clear()
    find(browser, "input[type=search]")[0].send_keys(" ")
    click(browser, "[name=state] option", "never came")
    until(lambda: find(browser, "tbody tr")[0].text.startswith("gateway-2"))
    assert len(find(browser, "tbody tr")) == 1


def test_a_trend_is_drawn_and_read_by_keys(browser, page):
    log_in(browser, page)
    browser.get(page.url + "#machine/gateway-1/pump")
    click(browser, "button", "1 day")
    until(lambda: len(find(browser, "svg.trend path.median")) == 1)
    until(lambda: "L" in find(browser, "svg.trend path.median")[0].get_attribute("d"))
    drawing = find(browser, "svg.trend")[0]
    # Its letters are as they were cut: a unit is one pixel both ways, on a phone as well.
    for width in (390, 0):
        sized(browser, width)
        assert browser.execute_script(
            "const m = document.querySelector('svg.trend').getScreenCTM(); return [m.a, m.d]"
        ) == [1, 1]
        until(
            lambda: browser.execute_script(
                "const d = document.querySelector('svg.trend'), wide = d.getBoundingClientRect().right;"
                "return [...d.querySelectorAll('text')].every("
                "(one) => one.getBoundingClientRect().right <= wide + 1)"
            )
        )
    drawing.send_keys("\ue012")  # the left arrow
    shown(browser, "#trend-read", "median 0.")
    photograph(browser, "plant-machine")


def test_what_never_came_is_shown(browser, page):
    log_in(browser, page)
    click(browser, "nav a", "Devices")
    shown(browser, "tr", "gateway-2")
    shown(browser, ".badge.alarm", "✖ 3")
    shown(browser, ".badge.alert", "offline")


def test_an_admin_adds_a_user(browser, page):
    log_in(browser, page)
    click(browser, "nav a", "Users")
    click(browser, "button", "Add a user")
    find(browser, "dialog [name=name]")[0].send_keys("bert")
    find(browser, "dialog [name=password]")[0].send_keys("long-enough")
    click(browser, "dialog button.main", "Keep")
    shown(browser, "#users tr", "bert")


PAGES = ("machines", "alarms", "machine/gateway-1/pump", "devices", "export", "users")


@pytest.mark.parametrize("where", PAGES)
def test_a_page_fits_a_phone(browser, page, where):
    log_in(browser, page)
    sized(browser, 390)
    try:
        browser.get(page.url + "#" + where)
        shown(browser, "main section, main form")
        time.sleep(0.5)
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        photograph(browser, "plant-" + where.split("/")[0])
        assert wide <= 390
    finally:
        sized(browser, 0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("where", PAGES)
def test_axe_finds_nothing_amiss(browser, page, where, scheme):
    log_in(browser, page)
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get(page.url + "#" + where)
    shown(browser, "main section, main form")
    time.sleep(0.5)

    assert violations(browser) == []


def test_axe_finds_nothing_amiss_with_the_login(browser, page):
    log_in(browser, page)
    click(browser, "#logout")
    shown(browser, "h1", "Log in")

    assert violations(browser) == []

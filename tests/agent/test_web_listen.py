"""Listening to a microphone live: for those who may, never against privacy, and on record."""

from __future__ import annotations

import httpx
import numpy as np
import pytest
import yaml
from support.browser import click, find, open_browser, shown
from support.bundles import RATE
from support.page import Running, page_config, until

ACT = {"X-Auscult": "1"}


def configured(folder, bundle, *, listen=True, **evidence):
    path = page_config(folder, bundle, [(30, 440)], web={"listen": listen})
    config = yaml.safe_load(path.read_text())
    config["evidence"].update(evidence)
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_bundle):
    with Running(configured(tmp_path_factory.mktemp("listen"), tiny_bundle)) as found:
        until(lambda: found.agent.page.sounds["pump"].rate)
        yield found


def test_what_the_microphone_hears_is_streamed_and_each_listening_is_on_record(running):
    place = f"{running.url}/api/machines/pump/listen"
    data = b""
    with httpx.stream("POST", place, headers=ACT, timeout=20) as stream:
        assert stream.status_code == 200
        assert stream.headers["x-sample-rate"] == str(RATE)
        for part in stream.iter_bytes():
            data += part
            if len(data) > 2 * RATE:
                break
    samples = np.frombuffer(data[: len(data) // 2 * 2], "<i2") / 32768
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert np.argmax(spectrum) * RATE / len(samples) == pytest.approx(440, abs=3)
    assert np.sqrt(np.mean(samples**2)) == pytest.approx(0.2 / 2**0.5, rel=0.05)
    feed = running.agent.page.sounds["pump"]
    until(lambda: feed.listeners == 0)  # nobody listens: nothing is copied
    lines = "".join(
        one.read_text() for one in (running.agent.config.state_path / "audit").glob("*")
    )
    assert "/api/machines/pump/listen" in lines
    # A page of another site cannot ask for it, nor a picture or player of one.
    assert httpx.post(place).status_code == 403
    assert httpx.get(place).status_code in {404, 405}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"listen": False}, "web.listen"),
        ({"sound": "none"}, "evidence.sound"),
        ({"speech": "blur"}, "evidence.speech"),
    ],
)
def test_nobody_listens_unless_it_is_allowed(tmp_path, tiny_bundle, changes, why):
    with Running(configured(tmp_path, tiny_bundle, **changes)) as found:
        until(lambda: found.agent.page.sounds["pump"].rate)
        answer = httpx.post(f"{found.url}/api/machines/pump/listen", headers=ACT)
        assert answer.status_code == 403
        assert why in answer.json()["error"]


@pytest.mark.slow
def test_a_browser_plays_it_until_told_to_stop(running):
    browser = open_browser()
    try:
        browser.get(f"{running.url}/#live/pump")
        shown(browser, ".link.on", "connected")
        click(browser, "[data-act=listen]")
        until(
            lambda: (
                float(find(browser, "[data-act=listen]")[0].get_attribute("data-heard") or 0) > 1
            )
        )
        click(browser, "[data-act=listen]", "Stop")
        shown(browser, "[data-act=listen]", "Listen live")
        until(lambda: running.agent.page.sounds["pump"].listeners == 0)
    finally:
        browser.quit()

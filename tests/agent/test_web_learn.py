"""Learning from the page: a process of its own makes the bundle, and the running agent takes it up."""

from __future__ import annotations

import httpx
import pytest
import yaml
from support import healthy
from support.browser import find, open_browser, photograph, shown
from support.page import Running, until

from agent.bundle.verify import read_manifest

ACT = {"X-Auscult": "1"}
PLACE = "machines/pump/learning"


@pytest.fixture
def client(tmp_path):
    path = tmp_path / "agent.yaml"
    settings = {
        "state_dir": "state", "machines": [{"name": "pump"}, {"name": "fan"}],
        "bundles": {"watch_seconds": 0.3}, "collect": {"free_share": 0},
        "web": {"enabled": True, "port": 0},
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    healthy.collected(tmp_path / "state", "pump", 5)
    with (
        Running(path) as running,
        httpx.Client(base_url=f"{running.url}/api", timeout=20, headers=ACT) as found,
    ):
        yield found


def over(client, place=PLACE):
    found = client.get(place).json()
    return found if found["state"] in {"done", "failed"} else None


def test_learnt_and_taken_up_while_it_runs(client, tmp_path):
    assert client.get(PLACE).json()["state"] == "never"
    begun = client.post(PLACE, json={}).json()
    assert (begun["state"], begun["commissioned"]) == ("running", False)
    # One at a time: the device listens meanwhile.
    assert client.post("machines/fan/learning", json={}).status_code == 409

    steps = set()

    def ended():
        found = client.get(PLACE).json()
        steps.add(found["step"])
        return over(client)

    found = until(ended, 300)

    assert found["state"] == "done", found["text"]
    assert "cannot tell" in found["text"]
    assert any("promise: at most" in note for note in found["notes"])
    assert len(steps) > 2
    assert read_manifest(tmp_path / "state" / "bundles" / "pump").machine == "pump"
    report = client.get("machines/pump/report")
    assert "What was learnt of pump" in report.text
    assert "data:audio/flac" in report.text
    # It runs its own script, and gets at nothing of the page.
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts; ")
    assert client.get("machines/fan/report").status_code == 404
    missing = lambda: client.get("health").json()["machines"]["pump"]["missing"]  # noqa: E731
    until(lambda: missing() == ["microphone"], 60)


def test_why_nothing_was_learnt_is_told(client, tmp_path):
    client.post("machines/fan/learning", json={"untypical": "keep"})

    found = until(lambda: over(client, "machines/fan/learning"), 120)

    assert found["state"] == "failed"
    assert "no usable healthy sound of 'fan'" in found["text"]
    assert not (tmp_path / "state" / "bundles" / "fan").exists()
    assert client.post(PLACE, json={"untypical": "perhaps"}).status_code == 422


@pytest.mark.slow
def test_learn_now_is_pressed_in_a_browser(client):
    browser = open_browser()
    try:
        browser.get(f"{str(client.base_url).removesuffix('/api/')}/#setup/pump")
        button = shown(browser, "#learn", "Learn now", seconds=20)
        until(button.is_enabled, 30)
        photograph(browser, "learn-1")
        button.click()
        shown(browser, ".card progress", seconds=30)
        shown(browser, ".card [role=status]", "Learnt: raises", seconds=240)
        photograph(browser, "learn-2")
        shown(browser, ".steps li.done", "Learn it", seconds=60)
        browser.get(shown(browser, ".card a", "Open the report").get_attribute("href"))
        shown(browser, "output", "read")
        assert len(find(browser, ".u-wrap canvas")) == 4
        assert [one for one in browser.get_log("browser") if one["level"] == "SEVERE"] == []
    finally:
        browser.quit()

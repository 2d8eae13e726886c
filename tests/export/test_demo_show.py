"""The demonstration, whole: a real agent, a real broker, a report that needs no other file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner
from support.browser import find, open_browser, sized, violations
from support.browser import shown as visible

from agent.core.errors import AuscultError
from export.commands.demo import demo
from export.demo.agent_process import AgentProcess, write_config
from export.demo.show import MARKER


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """A short demonstration with an encoder that needs no training."""
    out = tmp_path_factory.mktemp("demo") / "out"
    command = [
        sys.executable,
        "-m",
        "agent.cli",
        "demo",
        "--preset",
        "auscult_scratch",
        "--seconds",
        "60",
    ]
    done = subprocess.run(
        [*command, "--out", str(out), "--fault", "bearing", "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    return out, done


def test_it_detects_and_says_so(shown):
    _, done = shown
    assert done.returncode == 0, done.stdout + done.stderr
    words = " ".join(done.stdout.split())
    assert "ALARM raised" in words
    assert re.search(r"raised \d+ s \(\d+ windows\) after the fault began", words)
    assert "auscult learn my-fan --out my-fan.bundle" in words
    # A command that is to be copied is on a line of its own, whole.
    assert any(line.endswith("--seconds 1200 --out my-fan") for line in done.stdout.splitlines())
    assert "\x1b" not in done.stdout  # plain lines: this is no terminal


def test_the_report_stands_alone(shown):
    out, _ = shown
    page = (out / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', page)
    assert len(sources) == 4  # two sounds, to be seen and heard
    assert all(source.startswith("data:") for source in sources)
    told = re.sub(
        r"base64,[A-Za-z0-9+/=]+|<script>/\*! https.*?</script>", "", page, flags=re.DOTALL
    )
    assert "http" not in told
    # What was not quantized is not held against itself.
    assert "sound_views, float32, 0." in told
    assert "cosine to float32" not in told
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")
    assert len(page) < 4_000_000


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_is_whole_on_a_phone_and_dark_in_the_dark(shown, width, scheme):
    """Its plots were pictures: white in the dark, and cut at a width of 390."""
    out, _ = shown
    browser = open_browser()
    try:
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
        sized(browser, width)
        browser.get((out / "report.html").as_uri())
        visible(browser, "output", "read")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        plots = find(browser, "figure.drawn .u-wrap canvas")
        assert len(plots) == 2
        # A plot has no ground of its own: the page's shows through.
        grounds = browser.execute_script(
            "return arguments[0].map(c => c.getContext('2d').getImageData(2, 2, 1, 1).data[3])",
            plots,
        )
        assert grounds == [0, 0]
        ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
        levels = [int(one) for one in re.findall(r"\d+", ground)[:3]]
        assert max(levels) < 60 if scheme == "dark" else min(levels) > 200
        assert browser.get_log("browser") == []
        assert violations(browser) == []
    finally:
        browser.quit()


def test_its_configuration_is_one_a_user_could_write(shown):
    out, _ = shown
    config = yaml.safe_load((out / "agent.yaml").read_text())
    assert config["machines"][0]["bundle"] == "bundle"
    assert config["machines"][0]["source"]["paths"] == ["stream.wav"]
    check = [sys.executable, "-m", "agent.cli", "run", "--config", str(out / "agent.yaml")]
    subprocess.run([*check, "--check"], check=True, capture_output=True, timeout=60)


def test_someone_elses_folder_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    done = CliRunner().invoke(demo, ["--out", str(tmp_path)])
    assert done.exit_code != 0
    assert "not empty" in str(done.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def wait_for(agent):
    while not agent.ended():
        time.sleep(0.1)


def test_the_agent_s_failure_is_told_with_its_words(tmp_path):
    config = tmp_path / "agent.yaml"
    soundfile.write(tmp_path / "stream.wav", np.zeros(16000), 16000)
    write_config(
        config,
        machine="fan",
        bundle=tmp_path / "nowhere",
        stream=tmp_path / "stream.wav",
        host="127.0.0.1",
        port=1,
        hop=1.0,
    )
    agent = AgentProcess(config, tmp_path / "agent.log")
    agent.start()
    with pytest.raises(AuscultError, match=r"exit status 2.*nowhere"):
        wait_for(agent)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing_running(tmp_path, number):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "agent.cli", "demo", "--preset", "log_mel"]
    process = subprocess.Popen(
        [*command, "--out", str(out)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    for _ in range(3000):
        if (out / MARKER).is_file():
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert b"stopped" in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)

"""README's commands for who has recordings, typed as they stand: from a folder to a judging agent."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from support.broker import free_port
from support.bundles import tone, write

ROOT = Path(__file__).parents[2]
RATE = 16_000


def commands():
    """The commands of auscult that README has there."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text.partition("## Recordings at hand?")[2].partition("\n## ")[0]
    return re.findall(r"^    auscult ([^#\n]+?) *(?:#.*)?$", part, re.MULTILINE)


def test_from_a_folder_of_recordings_to_a_judging_agent(tmp_path):
    for n in range(8):
        write(tmp_path / "my-fan" / f"{n}.wav", tone(12, seed=n, rate=RATE), rate=RATE)
    write(tmp_path / "today.wav", tone(12, 1310, seed=99, rate=RATE), rate=RATE)
    learn, score, init, run = commands()
    home = {**os.environ, "HOME": str(tmp_path / "home"), "XDG_STATE_HOME": str(tmp_path / "state")}

    def typed(line):
        words = [sys.executable, "-m", "agent.cli", *shlex.split(line)]
        return subprocess.Popen(
            words, cwd=tmp_path, env={**home, "PYTHONPATH": str(ROOT)}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    said = typed(learn).communicate(timeout=300)[0]
    assert "my-fan has no normal/: its 8 recordings are all taken as healthy" in said
    assert "next: " in said.splitlines()[-1]
    assert (tmp_path / "fan-report" / "report.html").is_file()
    assert "anomalous" in typed(score).communicate(timeout=300)[0]
    assert "next: " in typed(init).communicate(timeout=300)[0]
    # Another test may have the page's own port.
    config = tmp_path / "agent.yaml"
    config.write_text(
        config.read_text().replace("{enabled: true}", f"{{enabled: true, port: {free_port()}}}")
    )
    agent = typed(run)
    try:
        judged = next(line for line in agent.stdout if "first window judged" in line)
        assert float(re.search(r"score ([0-9.]+)", judged)[1]) > 1
        agent.send_signal(signal.SIGINT)
        said = agent.communicate(timeout=60)[0]
    finally:
        agent.kill()
    assert re.search(r"fan: \d+ windows? over", said)

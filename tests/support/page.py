"""A whole agent with its page, listening to a replayed stream in real time."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import yaml

from agent.config.agent import load_config
from agent.service import Agent
from support.bundles import tone, write


def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert found
    return found


def page_config(folder: Path, bundle: Path, sounds, *, web=None, speed="realtime", **extra) -> Path:
    """Write an agent.yaml with the machine `pump`."""
    if not (folder / "pump").exists():
        shutil.copytree(bundle, folder / "pump")
    for n, (seconds, hertz) in enumerate(sounds):
        write(folder / "sound" / f"{n}.wav", tone(seconds, hertz, seed=n + 50))
    source = {"kind": "replay", "paths": ["sound"], "speed": speed, "loop": True}
    path = folder / "agent.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "device": "dev",
                "state_dir": "state",
                "machines": [
                    {"name": "pump", "bundle": "pump", "source": source,
                     "decide": {"raise_windows": 2, "of_windows": 3, "latch": True}}
                ],
                "bundles": {"watch_seconds": 0.3, "trial_windows": 2},
                "evidence": {"before_seconds": 3, "during_seconds": 2, "free_share": 0},
                "collect": {"free_share": 0},
                "web": {"enabled": True, "port": 0, **(web or {})},
                **extra,
            }
        )
    )  # fmt: skip
    return path


class Running:
    """An agent that runs until the block ends."""

    def __init__(self, path: Path) -> None:
        self.agent = Agent(load_config(path))

    def __enter__(self):
        self.agent.prepare()
        self.agent.start()
        self.thread = threading.Thread(target=self.agent.wait)
        self.thread.start()
        return self

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.agent.page.port}"

    def __exit__(self, *_):
        self.agent.request_stop()
        self.thread.join(5)
        self.agent.stop()

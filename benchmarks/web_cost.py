"""What the device's page costs the agent, and how soon a browser shows something.

    .venv/bin/python benchmarks/web_cost.py [--bundle BUNDLE] [--machines 10] [--seconds 30]

Each agent is a process of its own that plays noise at real time to its machines. Processor time is
taken from outside, over `--seconds` after it has settled, as a share of one core: without the page;
with it and nobody watching; with three who follow the messages; with three who also watch the
spectrogram, as the live page does. Beside it stands resident memory. What the viewers themselves
take is not counted.

The page's weight is what a browser fetches for its first picture, uncompressed, as it travels. With
Chromium and chromedriver on the path, a fresh profile opens the page and tells when it painted
first, and when the graph and the spectrogram had something to show.

Without --bundle the encoder is mn04 with random weights in INT8, whose costs are the real one's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import soundfile
import yaml
from rich.console import Console
from rich.table import Table

from agent.bundle.verify import read_manifest

VIEWERS = 3
_SETTLE = 5.0  # seconds after the first windows
_PATIENCE = 300.0  # for begin and end, also where other work keeps the processor busy
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextlib.contextmanager
def agent(
    folder: Path, bundle: Path, machines: int, *, page: bool
) -> Iterator[tuple[psutil.Process, str]]:
    """An agent that listens to noise; its process, and where its page is."""
    manifest = read_manifest(bundle)
    rate = manifest.encoder.sample_rate
    sound = folder / "noise.wav"
    if not sound.exists():
        level = float(np.mean(manifest.trained_on.level_dbfs))
        noise = np.random.default_rng(0).normal(0, 10 ** (level / 20), 20 * rate)
        soundfile.write(sound, np.clip(noise, -1, 1).astype(np.float32), rate)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    name = "page" if page else "plain"
    told = folder / f"{name}.jsonl"
    config = folder / f"{name}.yaml"
    source = {"kind": "replay", "paths": [str(sound)], "loop": True}
    config.write_text(
        yaml.safe_dump(
            {
                "state_dir": str(folder / f"state-{name}"),
                "machines": [
                    {
                        "name": "pump" if n == 0 else f"pump-{n + 1}",
                        "bundle": str(bundle),
                        "source": source,
                        "hop": 1.0,
                    }
                    for n in range(machines)
                ],
                "jsonl": str(told),
                "web": {"enabled": page, "port": port},
            }
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "run", "--config", str(config), "--log-level", "error"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        deadline = time.monotonic() + _PATIENCE + manifest.window_seconds
        while not (told.exists() and '"kind":"score"' in told.read_text().replace(" ", "")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the agent does not begin: see its log above")
            time.sleep(0.2)
        time.sleep(_SETTLE)
        yield psutil.Process(process.pid), f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(_PATIENCE)


@contextlib.contextmanager
def viewers(url: str, *, sound: bool) -> Iterator[list[int]]:
    """Browsers, as far as the device sees them; counts what each was told."""
    stop = threading.Event()
    counts = [0] * VIEWERS

    def watch(number: int) -> None:
        query = {"sound": "pump"} if sound else {}
        with (
            httpx.Client(timeout=30) as client,
            client.stream("GET", f"{url}/api/stream", params=query) as stream,
        ):
            for line in stream.iter_lines():
                counts[number] += line.startswith("data: ")
                if stop.is_set():
                    return

    threads = [threading.Thread(target=watch, args=(n,), daemon=True) for n in range(VIEWERS)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join(10)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process takes: processor time, percent of one core, and resident memory, MB."""

    percent: float
    megabytes: float


def share(process: psutil.Process, seconds: float) -> Cost:
    """What a process takes over a stretch of time."""
    before, began = process.cpu_times(), time.monotonic()
    time.sleep(seconds)
    after, taken = process.cpu_times(), time.monotonic() - began
    percent = 100 * (after.user + after.system - before.user - before.system) / taken
    return Cost(percent, process.memory_info().rss / 1e6)


def weigh(url: str) -> dict[str, int]:
    """Bytes of the page and of all that it names before its first picture."""
    found: dict[str, int] = {}
    waiting = [""]
    while waiting:
        place = waiting.pop()
        if place in found:
            continue
        answer = httpx.get(f"{url}/{place}")
        answer.raise_for_status()
        found[place] = len(answer.content)
        if place == "":
            waiting += re.findall(r'(?:href|src)="(static/[^"]+)"', answer.text)
        elif place.endswith(".js"):
            folder = place.rpartition("/")[0]
            waiting += [f"{folder}/{one}" for one in re.findall(r'from "\./([^"]+)"', answer.text)]
    return found


def first_picture(url: str) -> dict[str, float] | None:
    """When a fresh browser shows something, ms from the beginning of the navigation."""
    program = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        browser.get("about:blank")
        browser.set_script_timeout(40)
        browser.get(f"{url}/#live/pump")
        found: dict[str, float] = browser.execute_async_script(
            """
            const done = arguments[0], seen = {};
            const painted = (css) => {
              const c = document.querySelector(css);
              if (!c || !c.width) return false;
              const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
              const s = new Set();
              for (let i = 0; i < d.length; i += 44) s.add(d[i] << 16 | d[i + 1] << 8 | d[i + 2]);
              return s.size > 8;
            };
            const look = () => {
              const now = performance.now();
              const first = performance.getEntriesByName("first-contentful-paint")[0];
              if (first) seen.first_paint_ms = first.startTime;
              const graph = document.querySelector("#score");
              if (!seen.graph_ms && graph && Number(graph.dataset.points) > 0) seen.graph_ms = now;
              if (!seen.spectrogram_ms && painted("canvas.spectrogram")) seen.spectrogram_ms = now;
              if (seen.spectrogram_ms && seen.graph_ms && first || now > 30000) done(seen);
              else setTimeout(look, 10);
            };
            look();
            """
        )
        return {name: round(value, 1) for name, value in found.items()}
    finally:
        browser.quit()


def run(bundle: Path, folder: Path, machines: int, seconds: float) -> dict[str, Any]:
    """All of it."""
    cost: dict[str, Cost] = {}
    with agent(folder, bundle, machines, page=False) as (process, _):
        cost["without the page"] = share(process, seconds)
    with agent(folder, bundle, machines, page=True) as (process, url):
        cost["with it, nobody watching"] = share(process, seconds)
        with viewers(url, sound=False) as told:
            cost[f"{VIEWERS} watch the messages"] = share(process, seconds)
        if min(told) < seconds / 10:
            raise SystemExit(f"the viewers were told too little: {told}")
        with viewers(url, sound=True) as told:
            cost[f"{VIEWERS} watch the spectrogram too"] = share(process, seconds)
        if min(told) < 2 * seconds:
            raise SystemExit(f"the viewers were told too little: {told}")
        cost["all gone again"] = share(process, seconds)
        weights = weigh(url)
        picture = first_picture(url)
    return {
        "cores": os.cpu_count(),
        "load": [round(one, 2) for one in os.getloadavg()],
        "seconds": seconds,
        "machines": machines,
        "percent_of_a_core": {name: round(one.percent, 2) for name, one in cost.items()},
        "megabytes": {name: round(one.megabytes, 1) for name, one in cost.items()},
        "page_bytes": sum(weights.values()),
        "page_files": len(weights),
        "first_picture": picture,
    }


def show(found: dict[str, Any]) -> Table:
    """As a table."""
    table = Table("what", "", title="The device's page")
    for name, value in found["percent_of_a_core"].items():
        table.add_row(name, f"{value:.2f} % of a core, {found['megabytes'][name]:.0f} MB")
    table.add_row("weight", f"{found['page_bytes'] / 1000:.0f} kB in {found['page_files']} files")
    for name, value in (found["first_picture"] or {}).items():
        table.add_row(name.removesuffix("_ms").replace("_", " "), f"{value:.0f} ms")
    return table


def main() -> None:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, help="In place of mn04 with random weights")
    parser.add_argument("--machines", type=int, default=1, help="Of the same bundle")
    parser.add_argument("--seconds", type=float, default=30.0, help="Time of each measurement")
    parser.add_argument("--json", type=Path, help="Write the result to this file too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle = options.bundle
        if bundle is None:
            from small_bundle import make_bundle

            bundle = make_bundle(folder / "bundle")
        found = run(bundle.absolute(), folder, options.machines, options.seconds)
    Console().print(show(found))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

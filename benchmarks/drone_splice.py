"""From healthy flight to broken flight, through the real agent and a real broker.

    .venv/bin/python benchmarks/drone_splice.py --preset mn04 --weights CHECKPOINTS

Drone flights (UPAAD) are mixed with background noise (ESC-10) at a stated signal-to-noise ratio. A
detector is trained on some healthy flights and exported. Then, for every broken flight, held-out
healthy flights and that broken one are spliced and replayed by `auscult run`, as fast as possible,
into a mosquitto of the benchmark's own; `mosquitto_sub` reads the alarm. Printed: windows from the
splice to the alarm, and false alarms an hour over the healthy part. Needs $AUSCULT_SHARED.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import drone_data
import soundfile
from rich.console import Console
from rich.table import Table

AUSCULT = Path(sys.executable).with_name("auscult")
SHARED = Path(os.environ.get("AUSCULT_SHARED", Path(__file__).parents[2] / "shared"))


def auscult(*words: str | Path) -> None:
    """Run a command of auscult; its own words explain a failure."""
    done = subprocess.run([AUSCULT, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"auscult {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


@contextmanager
def broker(folder: Path) -> Iterator[int]:
    """A mosquitto on a free loopback port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    binary = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    process = subprocess.Popen([binary, "-c", settings], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        process.wait()


def listen(port: int, bundle: Path, stream: list[Path], folder: Path) -> list[dict[str, Any]]:
    """Replay a stream through the agent; every message of its machine, in order."""
    # A state of its own: an alarm outlives the agent, and would this stream.
    folder = Path(tempfile.mkdtemp(dir=folder))
    config = folder / "agent.yaml"
    source = {"kind": "replay", "paths": [str(p) for p in stream], "speed": "max"}
    machine = {"name": "drone", "bundle": str(bundle), "source": source}
    mqtt = {"host": "127.0.0.1", "port": port}
    # JSON is YAML.
    data = {"device": "bench", "mqtt": mqtt, "machines": [machine], "state_dir": "state"}
    config.write_text(json.dumps(data))
    heard = folder / "heard.txt"
    topic = "auscult/bench/drone/#"
    words = [
        "mosquitto_sub",
        "-h",
        "127.0.0.1",
        "-p",
        str(port),
        "-q",
        "1",
        "-t",
        topic,
        "-F",
        "%t %p",
    ]
    # Into a file: a pipe that nobody reads fills up, and then the broker drops messages.
    with heard.open("w") as sink:
        subscriber = subprocess.Popen(words, stdout=sink)
        time.sleep(0.5)
        auscult("run", "--config", config)
        time.sleep(0.5)
        subscriber.terminate()
        subscriber.wait()
    found = []
    for line in heard.read_text().splitlines():
        name, _, payload = line.partition(" ")
        if payload:
            found.append({"topic": name.rsplit("/", 1)[1], **json.loads(payload)})
    return found


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", default="mn04")
    parser.add_argument("--weights", default=str(SHARED / "weights"))
    parser.add_argument("--snr", type=float, default=0.0, help="dB")
    parser.add_argument("--folds", type=int, default=2, help="draws of the held-out flights")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        for fold in range(options.folds):
            folder = Path(place) / str(fold)
            drone = drone_data.write(SHARED, folder, snr_db=options.snr, seed=fold)
            run, bundle = folder / "run", folder / "bundle"
            auscult(
                "train", drone.data, "--preset", options.preset, "--out", run,
                "--weights", options.weights,
            )  # fmt: skip
            auscult("export", run, "--out", bundle)
            with broker(folder) as port:
                for broken in drone.broken:
                    messages = listen(port, bundle, [*drone.healthy, broken], folder)
                    rows.append(_judge(messages, drone.healthy, broken, fold))
    table = Table(title=f"{options.preset}, SNR {options.snr:g} dB, windows of 10 s every 1 s")
    for name in rows[0]:
        table.add_column(name)
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)
    hours = sum(r["healthy s"] for r in rows) / 3600
    raised = sum(r["false alarms"] for r in rows)
    print(
        f"false alarms: {raised} in {hours:.2f} h of healthy flight, {raised / hours:.1f} an hour"
    )
    found = [r["delay, windows"] for r in rows if r["delay, windows"] is not None]
    print(f"detected: {len(found)} of {len(rows)}; delays in windows: {sorted(found)}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def _judge(
    messages: list[dict[str, Any]], healthy: tuple[Path, ...], broken: Path, fold: int
) -> dict[str, Any]:
    """False alarms before the splice, and windows from the splice to the first alarm after it."""
    splice = sum(soundfile.info(path).duration for path in healthy)
    events = [m["data"] for m in messages if m["topic"] == "event"]
    # A window's place in the stream: its number times the hop of 1 s, and its length.
    raised = [e["window"] + e["seconds"] for e in events if e["event"] == "raised"]
    after = [second for second in raised if second > splice]
    standing = _level_at(events, splice)
    return {
        "fold": fold,
        "broken flight": broken.stem,
        "healthy s": round(splice),
        "windows": sum(m["topic"] == "score" for m in messages),
        "false alarms": len(raised) - len(after),
        "alarm at splice": standing,
        "delay, windows": round(after[0] - splice) if after else None,
    }


def _level_at(events: list[dict[str, Any]], second: float) -> str:
    level = "normal"
    for event in events:
        if event["window"] + event["seconds"] <= second:
            level = event["level"]
    return level


if __name__ == "__main__":
    main()

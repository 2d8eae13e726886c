"""Where `auscult train` and `auscult export` spend their time, stage by stage.

    python benchmarks/workstation.py DATA --json now.json [--presets auscult_scratch ...]
        [--weights WEIGHTS] [--tree FOLDER]
    python benchmarks/workstation.py --table before.json now.json

Trains, exports (with the report and the test set), and does both once more with what the first time
left in the cache, each command in a process of its own with one thread a library. Wall and
processor time, children's included, are read off whenever a stage begins or ends. --tree measures
another checkout of auscult. --table sets several such files side by side in Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

# Runs a command of the tree that PYTHONPATH names, and writes a line of JSON at each stage.
_CHILD = """
import json, resource, sys, time
import agent.core.progress as shown
began, out = time.monotonic(), open(sys.argv[1], "w", buffering=1)
def spent():
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)
def say(self, text):
    out.write(json.dumps([time.monotonic() - began, spent(), text]) + "\\n")
shown.Stages._say = say
say(None, "loading Python packages (1)")
from agent.cli import main
sys.argv = ["auscult", *sys.argv[2:]]
try:
    main()
finally:
    say(None, "the end (1)")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.write(json.dumps([time.monotonic() - began, spent(), "", peak]) + "\\n")
"""
# Shown in a line of their own in --table; what takes less is summed up.
_SHOWN = 0.7


def measure(tree: Path, folder: Path, command: list[str], cache: Path) -> dict[str, Any]:
    """Run a command, and give its time by stage."""
    log = folder / "stages.jsonl"
    environment = {
        **os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(cache), "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    subprocess.run(
        [sys.executable, "-c", _CHILD, str(log), *command],
        cwd=folder, env=environment, check=True, capture_output=True,
    )  # fmt: skip
    *lines, last = [json.loads(line) for line in log.read_text().splitlines()]
    stages: dict[str, list[float]] = {}
    now, wall, cpu = "loading Python packages", 0.0, 0.0
    for at, spent, text in lines:
        one = stages.setdefault(now, [0.0, 0.0])
        one[0] += at - wall
        one[1] += spent - cpu
        wall, cpu = at, spent
        if text.endswith(": done"):
            now = "between stages"
        elif not text.rsplit(": ", 1)[-1][:1].isdigit():
            now = text.rsplit(" (", 1)[0]
    return {"command": command[0], "wall": last[0], "cpu": last[1], "mb": last[3], "stages": stages}


def runs(chosen: argparse.Namespace, preset: str) -> list[dict[str, Any]]:
    """Both commands with an empty cache and with a full one."""
    found = []
    with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
        folder = Path(place)
        for round_ in ("empty", "full"):
            run, bundle = folder / f"run-{round_}", folder / f"{round_}.bundle"
            weights = ["--weights", str(chosen.weights.absolute())] if chosen.weights else []
            for command in (
                ["train", str(chosen.data.absolute()), "--preset", preset, *weights,
                 "--out", str(run)],
                ["export", str(run), "--out", str(bundle)],
            ):  # fmt: skip
                one = measure(chosen.tree.absolute(), folder, command, folder / "cache")
                found.append({"preset": preset, "cache": round_, **one})
                sys.stderr.write(
                    f"{preset} {command[0]}, cache {round_}: {one['wall']:.1f} s, processor "
                    f"{one['cpu']:.1f} s, {one['mb']:.0f} MB\n"
                )
    return found


def table(paths: list[Path]) -> str:
    """The files side by side: wall and processor seconds of each stage that takes long in any."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    lines = []
    for preset in dict.fromkeys(run["preset"] for file in files for run in file["runs"]):
        for command in ("train", "export"):
            columns = [
                (f"{path.stem}, cache {run['cache']}", run)
                for path, file in zip(paths, files, strict=True)
                for run in file["runs"]
                if (run["preset"], run["command"]) == (preset, command)
            ]
            titles = " | ".join(name for name, _ in columns)
            lines += ["", f"| `{preset}`, {command}: wall (processor), s | {titles} |"]
            lines.append("| --- |" + " ---: |" * len(columns))
            names = dict.fromkeys(name for _, run in columns for name in run["stages"])
            rest = [[0.0, 0.0] for _ in columns]
            for name in names:
                cells = [run["stages"].get(name, [0.0, 0.0]) for _, run in columns]
                if max(cpu for _, cpu in cells) < _SHOWN:
                    rest = [[a + c, b + d] for (a, b), (c, d) in zip(rest, cells, strict=True)]
                else:
                    lines.append(_row(name, cells))
            lines.append(_row("the rest", rest))
            lines.append(_row("**together**", [[run["wall"], run["cpu"]] for _, run in columns]))
    return "\n".join(lines) + "\n"


def _row(name: str, cells: list[list[float]]) -> str:
    told = " | ".join(f"{wall:.1f} ({cpu:.1f})" if cpu else "" for wall, cpu in cells)
    return f"| {name} | {told} |"


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="a machine's recordings")
    parser.add_argument("--presets", nargs="+", default=["auscult_scratch"])
    parser.add_argument("--weights", type=Path, help="folder of checkpoints")
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", type=Path, help="where to keep the figures")
    parser.add_argument("--table", nargs="+", type=Path, help="files of --json to set side by side")
    chosen = parser.parse_args()
    if chosen.table:
        sys.stdout.write(table(chosen.table))
        return
    if chosen.data is None:
        parser.error("give DATA, or --table")
    found = [one for preset in chosen.presets for one in runs(chosen, preset)]
    kept = {"load": os.getloadavg(), "machine": platform.processor(), "runs": found}
    if chosen.json:
        chosen.json.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""How the cost of learning a machine grows with its recordings: many short ones, or hours.

    python benchmarks/learn_growth.py --json learn.json [--clips 16 32 64] [--hours 0.05 0.1 0.2]
    python benchmarks/growth_cost.py --from growth.json learn.json --png growth.png

`auscult learn` in a process of its own, nothing cached: recordings opened, judged, measured and
cut, windows embedded by the encoder that comes with auscult, scorer and drift baseline fitted,
bundle written. Processor time, children's included, and peak memory. Clips are of 12 s; hours are
in four recordings. The sound is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from growth_fit import FEWEST, power

_RATE = 16000
_CLIP_SECONDS = 12.0
_LONG = 4  # recordings of hours


def write(folder: Path, count: int, seconds: float) -> None:
    """Recordings of noise whose level swings, each with its own spectrum."""
    place = folder / "normal"
    place.mkdir(parents=True)
    random = np.random.default_rng(0)
    block = 60 * _RATE
    for number in range(count):
        mixed = random.uniform(-0.5, 0.5)
        with soundfile.SoundFile(place / f"{number:05}.wav", "w", _RATE, 1) as file:
            left = round(seconds * _RATE)
            while left > 0:
                white = 0.03 * random.standard_normal(min(block, left) + 1)
                file.write(white[1:] + mixed * white[:-1])
                left -= block


def spent(folder: Path, out: Path) -> tuple[float, float]:
    """Milliseconds of processor and peak memory, MB, of learning from a folder."""
    environment = {
        **os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "AUSCULT_CACHE_MB": "0",
        "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "",
    }  # fmt: skip
    command = [sys.executable, "-m", "agent.cli", "learn", str(folder), "--out", str(out)]
    child = subprocess.Popen(
        command, cwd=out.parent, env=environment,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {child.returncode}")
    return 1000.0 * (used.ru_utime + used.ru_stime), used.ru_maxrss / 1024.0


def grown(what: str, unit: str, sizes: list[float]) -> dict[str, object]:
    """One curve."""
    cost, peak = [], []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
            folder = Path(place) / "pump"
            if unit == "clips":
                write(folder, int(size), _CLIP_SECONDS)
            else:
                write(folder, _LONG, size * 3600.0 / _LONG)
            one, memory = spent(folder, Path(place) / "pump.bundle")
        cost.append(one)
        peak.append(memory)
        sys.stderr.write(f"{what}, {size:g} {unit}: {one / 1000.0:.1f} s, {memory:.0f} MB\n")
    return {
        "what": what, "unit": unit, "work": sizes, "cost_ms": cost, "peak_mb": peak,
        "exponent": power(sizes, cost).value,
    }  # fmt: skip


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", nargs="+", type=float, default=[16, 32, 64, 128, 256])
    parser.add_argument("--hours", nargs="+", type=float, default=[0.05, 0.1, 0.2, 0.4, 0.8])
    parser.add_argument("--json", type=Path, required=True)
    chosen = parser.parse_args()
    if min(len(chosen.clips), len(chosen.hours)) < FEWEST:
        parser.error(f"an exponent with its interval takes {FEWEST} sizes at least")
    found = [
        grown("learning a machine", "clips", chosen.clips),
        grown("learning from long recordings", "hours", chosen.hours),
    ]
    chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

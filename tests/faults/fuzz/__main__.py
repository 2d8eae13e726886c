"""Fuzzes in boxes of minutes that can be continued, and counts what was tried (`make test-fuzz`).

    python -m tests.faults.fuzz [--seconds 60] [--state FOLDER] [TARGET ...]

Each target runs in a process of its own under libFuzzer, with the agent's coverage. The corpus, the
counts and what was found are kept in FOLDER: run it again to go on. Ends with code 1 when anything
was found; the input is in FOLDER/TARGET/found.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path

_DONE = re.compile(r"Done (\d+) runs|#(\d+)\t")


def fuzz(name: str, seconds: float, state: Path) -> tuple[int, int]:
    """One box; inputs tried, and how many findings there are."""
    corpus, found = state / name / "corpus", state / name / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.fuzz", "--child", name, "--seconds", str(seconds),
         "--state", str(state)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, text=True,
        errors="replace", cwd=Path(__file__).parents[3],
    )  # fmt: skip
    (state / name / "log.txt").write_text(done.stdout[-200_000:])
    counts = [int(one or other) for one, other in _DONE.findall(done.stdout)]
    findings = len(list(found.iterdir()))
    if done.returncode and not findings:
        sys.exit(f"{name}: the fuzzer ended with {done.returncode}\n{done.stdout[-3000:]}")
    return max(counts, default=0), findings


def child(name: str, seconds: float, state: Path) -> None:
    """Fuzz in this process; libFuzzer ends it."""
    import atheris

    with atheris.instrument_imports(include=["agent"]):
        import agent.activity.plant
        import agent.bundle.verify
        import agent.capture.files
        import agent.config.agent
        import agent.decide.state
        import agent.drift.memory
        import agent.publish.row
        import agent.request.dispatch
        import agent.score.index_state  # noqa: F401

    from tests.faults.fuzz.targets import TARGETS

    target = TARGETS[name]
    # What is refused is logged, some thousand times a second: nobody reads that here.
    logging.getLogger("agent").propagate = False
    logging.getLogger("agent").addHandler(logging.NullHandler())
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as made:
        folder = Path(made)
        corpus = state / name / "corpus"
        for number, seed in enumerate(target.seeds(folder)):
            (corpus / f"seed-{number}").write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], f"-max_total_time={seconds:.0f}", f"-max_len={target.most}",
             "-rss_limit_mb=4096", "-timeout=30", f"-artifact_prefix={state / name / 'found'}/",
             str(corpus)],
            target.make(folder),
        )  # fmt: skip
        atheris.Fuzz()


def main() -> None:
    """Run the boxes and print what was tried."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("targets", nargs="*")
    parser.add_argument("--seconds", type=float, default=60.0, help="a target")
    parser.add_argument("--state", type=Path, default=Path("fuzz-state"))
    parser.add_argument("--child", help=argparse.SUPPRESS)
    given = parser.parse_args()
    state = given.state.absolute()
    if given.child:
        child(given.child, given.seconds, state)
        return
    from tests.faults.fuzz.targets import TARGETS

    counts_file = state / "counts.json"
    counts = json.loads(counts_file.read_text()) if counts_file.exists() else {}
    findings = 0
    for name in given.targets or TARGETS:
        tried, found = fuzz(name, given.seconds, state)
        counts[name] = counts.get(name, 0) + tried
        findings += found
        counts_file.write_text(json.dumps(counts, indent=1))
        print(f"{name}: {tried} inputs now, {counts[name]} in all, {found} findings", flush=True)
    print(f"inputs {sum(counts.values())} findings {findings}")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()

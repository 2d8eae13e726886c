"""Learns one machine by running `auscult` as a person would; on any node that sees the folders."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from agent import __version__
from agent.core.child import running
from agent.core.errors import AuscultError
from agent.core.storage import write_json
from plant.learn.figures import figures_of
from plant.learn.inputs import Seen, content_digest, gather, survey
from plant.learn.task import RECORD, Outcome, PlantError, Task, read_outcome

_SAID = "auscult: "
_TAIL = 4096
_PR_SET_PDEATHSIG = 1


def learn_machine(
    task: Task, begun: Callable[[subprocess.Popen[bytes]], None] | None = None
) -> Outcome:
    """Learn a machine, unless it was learnt from the same recordings in the same way before.

    Everything is made in a folder of its own and put in place in one step, so that a process or a
    node that dies leaves either all of it or nothing.

    Args:
        task: What to do.
        begun: Told of each process that is started, for whoever may have to stop it.

    Returns:
        What became of it; a machine that cannot be learnt is an outcome, too.
    """
    began = time.monotonic()
    attempt = uuid.uuid4().hex[:12]
    scratch = task.out / "work" / f"{task.machine}-{attempt}"
    try:
        _require_version(task)
        seen = survey(task.sources, read_seen(task))
        content, recipe = content_digest(task.sources, seen), task.recipe()
        before = read_outcome(task)
        if before is not None and (before.content, before.recipe) == (content, recipe):
            _write_seen(task, seen)
            return before.model_copy(update={"state": "kept"})
        scratch.mkdir(parents=True)
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("ab") as log:
            _note(log, f"attempt {attempt} on {socket.gethostname()}, {_now()}")
            figures = _steps(task, scratch, log, begun)
        made = scratch / "made"
        manifest = json.loads((made / task.bundle.name / "manifest.json").read_bytes())
        outcome = Outcome(
            machine=task.machine, state="built", recipe=recipe, content=content,
            digest=manifest["digest"], attempt=attempt, node=socket.gethostname(), finished=_now(),
            seconds=round(time.monotonic() - began, 1), figures=figures,
        )  # fmt: skip
        write_json(made / RECORD, outcome.model_dump(mode="json"))
        _put(made, task.place)
        _write_seen(task, seen)
    except AuscultError as fault:
        outcome = _failed(task, str(fault), attempt, began)
    except OSError as fault:
        outcome = _failed(task, f"{fault.filename or task.out}: {fault.strerror}", attempt, began)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return outcome


def _require_version(task: Task) -> None:
    if task.version != __version__:
        raise PlantError(
            f"{socket.gethostname()} has auscult {__version__}, and the build is of {task.version}",
            remedy="Install the same version on every node.",
        )


def _steps(
    task: Task,
    scratch: Path,
    log: IO[bytes],
    begun: Callable[[subprocess.Popen[bytes]], None] | None,
) -> dict[str, Any]:
    """Run the commands, and give the bundle's figures."""
    how, made = task.how, scratch / "made"
    made.mkdir()
    bundle, told = made / task.bundle.name, made / "figures.json"
    data = gather(task.machine, task.sources, scratch)
    channel = [] if how.channel is None else ["--channel", str(how.channel)]
    untypical = [] if how.untypical is None else ["--untypical", how.untypical]
    preset = [] if how.preset is None else ["--preset", how.preset]
    weights = [] if how.weights is None else ["--weights", str(how.weights)]
    precise = ["--float"] if how.precision == "float32" else []
    seed = [] if how.seed is None else ["--seed", str(how.seed)]
    last = [
        *([] if task.sign is None else ["--sign", str(task.sign)]),
        *([] if how.sound is None or how.sound else ["--no-sound"]),
        "--out", str(bundle), "--json", str(told),
    ]  # fmt: skip

    def run(*words: str) -> None:
        auscult(words, log, cwd=scratch, threads=task.threads, begun=begun)

    if how.method == "learn":
        lent = [] if how.encoder_from is None else ["--encoder-from", str(how.encoder_from)]
        run("learn", str(data), *preset, *lent, *channel, *untypical, *last)
    else:
        select = [] if how.select is None else ["--select" if how.select else "--no-select"]
        run(
            "train", str(data), "--out", str(scratch / "run"),
            *preset, *weights, *channel, *untypical, *seed, *select,
        )  # fmt: skip
        run("export", str(scratch / "run"), "--machine", task.machine, *precise, *last)
    figures = figures_of(json.loads(told.read_bytes()), bundle)
    if how.evaluate == "given" and not _has_faults(data):
        # Of hundreds of machines few have recordings of faults, and `defaults` names them all.
        figures["notes"].append("not evaluated: it has no test recordings")
    elif how.evaluate in {"given", "time"}:
        run(
            "evaluate", str(data), "--split", how.evaluate, "--discard",
            *preset, *weights, *channel, *seed, *precise,
            "--out", str(made / "evaluation"), "--json", str(made / "evaluation.json"),
        )  # fmt: skip
    return figures


def _has_faults(data: Path) -> bool:
    """Whether there is anything to judge a machine's bundle on beside its healthy recordings."""
    names = {one.name.lower() for one in data.iterdir() if one.is_dir()}
    return bool(names & {"test", "abnormal", "anomaly", "anomalous"})


def auscult(
    words: tuple[str, ...],
    log: IO[bytes],
    *,
    cwd: Path,
    threads: int,
    begun: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> None:
    """Run one command of `auscult`, its output into the log; it ends with this process.

    Raises:
        PlantError: It failed; says what the command said.
    """
    _note(log, "$ auscult " + " ".join(words))
    begin = log.tell()
    env = {
        **os.environ,
        "OMP_NUM_THREADS": str(threads), "COLUMNS": "100", "NO_COLOR": "1",
    }  # fmt: skip
    process = subprocess.Popen(  # noqa: S603 - our own words
        [*running("agent.cli", "main"), *words],
        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
        cwd=cwd, env=env, preexec_fn=_die_with_parent,  # noqa: PLW1509 - calls one system call
    )  # fmt: skip
    try:
        if begun is not None:
            begun(process)
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code:
        raise PlantError(f"`auscult {words[0]}` {_why(Path(log.name), begin, code)}")


_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    """Linux ends the command when the worker that began it is gone, so that none goes on unseen."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _why(log: Path, begin: int, code: int) -> str:
    """The command's own last words."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - _TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    said = [n for n, line in enumerate(lines) if line.startswith(_SAID)]
    if said:
        return "failed: " + " ".join(lines[said[-1] :])[len(_SAID) :].strip()
    if code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}"
    failed = next((line for line in lines if line.startswith("failed: ")), "")
    last = failed or next((line for line in reversed(lines) if line.strip()), "")
    return f"ended with code {code}: {last.strip()}"


def _put(made: Path, place: Path) -> None:
    """Put a finished folder in place of an earlier one."""
    place.parent.mkdir(parents=True, exist_ok=True)
    old = made.parent / "old"
    if place.exists():
        place.rename(old)
    made.rename(place)


def _failed(task: Task, reason: str, attempt: str, began: float) -> Outcome:
    with suppress(OSError):
        task.log.parent.mkdir(parents=True, exist_ok=True)
        with task.log.open("ab") as log:
            _note(log, reason)
    return Outcome(
        machine=task.machine, state="failed", reason=reason, attempt=attempt,
        node=socket.gethostname(), finished=_now(), seconds=round(time.monotonic() - began, 1),
    )  # fmt: skip


def read_seen(task: Task) -> Seen:
    """What an earlier look at a machine's recordings found; nothing where there was none."""
    try:
        found = json.loads(task.seen.read_bytes())
        return {path: (int(size), int(time_), str(d)) for path, (size, time_, d) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_seen(task: Task, seen: Seen) -> None:
    task.seen.parent.mkdir(parents=True, exist_ok=True)
    write_json(task.seen, seen)


def _note(log: IO[bytes], text: str) -> None:
    log.write(f"{text}\n".encode())
    log.flush()


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")

"""Learns from what was collected: for the command, and for the page as a process of its own."""

from __future__ import annotations

import _thread
import json
import os
import sys
import threading
from pathlib import Path
from typing import IO

from rich.progress import Progress

from agent.bundle.sign import LEARNT, load_private
from agent.collect.machine import collected_machine
from agent.collect.reports import report_folder
from agent.core.errors import AuscultError
from agent.core.progress import JsonLines
from agent.deploy.device_key import device_key, ensure_device_key
from agent.encode.embedding_cache import EmbeddingCache
from agent.hygiene.record import Untypical
from agent.learn.encoders import ReadyEncoder, shipped_encoder
from agent.learn.learn import Learnt, Signing, learn
from agent.learn.report import report_data, told
from agent.report.learnt import write_report

# Of the processor and the disk, what listening leaves.
NICENESS = 15
# Lines that the page shows.
_KEPT = ("promise: ", "note: ")


def device_signing(state: Path) -> Signing:
    """What a device signs the bundles with that it learnt itself; its key is made where it lacks.

    Raises:
        SigningError: It cannot be made or read.
    """
    ensure_device_key(state)
    return Signing(load_private(device_key(state)), LEARNT)


def learn_collected(
    state: Path,
    machine: str,
    out: Path,
    encoder: ReadyEncoder,
    progress: Progress,
    *,
    untypical: Untypical = "refuse",
    signing: Signing | None = None,
    sound: bool = True,
    cache: EmbeddingCache | None = None,
) -> Learnt:
    """Make a bundle of the sound that was collected from a machine.

    Args:
        state: The agent's state directory.
        machine: The machine's name.
        out: The bundle's folder.
        encoder: What embeds.
        progress: Where to show progress.
        untypical: What becomes of healthy recordings unlike all others.
        signing: What to sign with; None leaves it unsigned.
        sound: Carry a few healthy windows as sound.
        cache: Where embeddings are kept; None for nowhere.

    Raises:
        AuscultError: As `learn`, or nothing was collected.
    """
    found = collected_machine(state / "collected", machine, progress)
    return learn(
        found, encoder, out, progress,
        untypical=untypical, signing=signing, machine_name=machine, sound=sound, cache=cache,
    )  # fmt: skip


def learn_here() -> int:
    """Learn as the first line of the standard input asks, and tell in JSON lines how far it is.

    The page's process holds the other end: when that is closed, this one ends and leaves nothing.

    Returns:
        The exit code.
    """
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with, args=(sys.stdin,), daemon=True).start()
    os.nice(NICENESS)
    state = Path(task["state"])
    try:
        signing = device_signing(state) if task["signed"] else None
        done = learn_collected(
            state, task["machine"], Path(task["out"]), shipped_encoder(), JsonLines(sys.stdout),
            untypical=task["untypical"], signing=signing, cache=EmbeddingCache.of_user(),
        )  # fmt: skip
    except AuscultError as fault:
        print(json.dumps({"failed": str(fault)}), flush=True)  # noqa: T201 - for the page
        return 1
    except KeyboardInterrupt:
        return 130
    try:
        write_report(done, report_folder(state, task["machine"]), sound=task["sound"])
    except (OSError, AuscultError) as fault:
        # The bundle is whole: that its report is missing is said, and no reason to take it back.
        print(f"no report: {fault}", file=sys.stderr)  # noqa: T201 - of a process of its own
    lines = (line for _, line in told(done.manifest, done.rehearsal, done.healthy_hours))
    # The verdict stands in the report, and numbers are for the terminal.
    kept = [line.removeprefix("note: ") for line in lines if line.startswith(_KEPT)]
    answer = {"report": report_data(done), "told": kept}
    print(json.dumps(answer), flush=True)  # noqa: T201 - for the page
    return 0


def _end_with(held: IO[str]) -> None:
    held.read()
    _thread.interrupt_main()

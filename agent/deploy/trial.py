"""A bundle is opened and tried in a process of its own first: what kills it kills that alone.

A graph may take all the memory there is, or never end (`Loop`), or end the process. So the agent
lets a child open it, with limits of time and memory, and opens itself only what the child could.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from agent.bundle.private import SealedCopy, opened_in_place
from agent.config.encode import InferenceConfig
from agent.core.child import running
from agent.core.errors import AuscultError, BundleError
from agent.deploy.load import Bundle, load

_POLL_SECONDS = 0.05
_PAGE = 4096
_REFUSED_CODE = 3
_TRIED = 8  # rows of its own bank that a bundle judges
# What Python, onnxruntime and a bundle of any size take beside the bundle's own bytes.
_SPARE_BYTES = 2_000_000_000
_TIMES = 6  # a graph's working memory, by its bytes
# A device that does much else gives it little of its processor: so much longer may it take then.
_WAIT_TIMES = 5
# Whoever ends the agent, or presses Ctrl-C, ends the child too, which is no fault of the bundle.
_TOLD_TO_END = frozenset({-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})


class TrialError(BundleError):
    """A bundle ended the process that tried it, or would not end."""


def try_in_child(copy: SealedCopy, inference: InferenceConfig, *, seconds: float) -> None:
    """Open a bundle in a child process, and let it judge.

    Args:
        copy: The bundle, verified.
        inference: How encoders are run.
        seconds: Longest time that it may take, on a processor that does nothing else.

    Raises:
        TrialError: It ended the child, took too much memory or too long.
        BundleError: It cannot be used, as the child says; or the trial could not be brought to its
            end, and may be repeated.
    """
    allowed = _SPARE_BYTES + _TIMES * sum(file.size for file in copy.manifest.files.values())
    folder, how = copy.source, inference.model_dump(mode="json")
    task = json.dumps({"folder": str(copy.folder), "source": str(folder), "inference": how})
    child = subprocess.Popen(  # noqa: S603 - our own code
        running("agent.deploy.trial", "try_here"),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert child.stdin is not None
        assert child.stdout is not None
        with contextlib.suppress(BrokenPipeError), child.stdin:
            child.stdin.write(task.encode())
        deadline = time.monotonic() + _WAIT_TIMES * seconds
        while child.poll() is None:
            if time.monotonic() > deadline:
                raise BundleError(
                    f"could not be tried within {_WAIT_TIMES * seconds:.0f} s: this device has "
                    "too much else to do",
                    where=folder,
                    remedy="Repeat it (`reload`) when it has less.",
                )
            if cpu_seconds(child.pid) > seconds * max(1, inference.threads):
                raise TrialError(
                    f"was not ready within {seconds:.0f} s of work when it was tried: its graph "
                    "may never end",
                    where=folder,
                    remedy="Export it anew; `bundles.trial_seconds` allows a slow device more.",
                )
            if _resident(child.pid) > allowed:
                raise TrialError(
                    f"takes more than {allowed / 1e9:.1f} GB of memory when it is tried",
                    where=folder,
                    remedy="Export a smaller encoder.",
                )
            time.sleep(_POLL_SECONDS)
        said = child.stdout.read(10_000).decode(errors="replace").strip()
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()
    if child.returncode == _REFUSED_CODE:
        raise BundleError(said)
    if child.returncode in _TOLD_TO_END:
        raise BundleError("was not tried to its end: the process was told to end", where=folder)
    if child.returncode:
        raise TrialError(
            f"ends the process that opens it (code {child.returncode})",
            where=folder,
            remedy="Export it anew; it is not tried again.",
        )


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken, seconds; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError, ValueError):
        return 0.0


def _resident(pid: int) -> int:
    """Memory that a process holds, bytes; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def try_here() -> int:
    """The child: a task on standard input, what is wrong on standard output, and an exit code."""
    # Should memory run out all the same, this process goes before any other.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    task = json.load(sys.stdin)

    try:
        inference = InferenceConfig.model_validate(task["inference"])
        with opened_in_place(Path(task["folder"]), Path(task["source"])) as copy:
            try_out(load(copy, inference=inference))
    except AuscultError as fault:
        print(fault)  # noqa: T201 - this is what the parent reads
        return _REFUSED_CODE
    return 0


def try_out(bundle: Bundle) -> None:
    """Let a fresh bundle judge: noise through the encoder, and rows of its own bank.

    Raises:
        BundleError: It gives no finite numbers, or does not know its own rows.
    """
    info = bundle.manifest.encoder
    level = float(10 ** (sum(bundle.manifest.trained_on.level_dbfs) / 40))
    noise = np.random.default_rng(0).normal(0, min(level, 0.3), (1, info.window_samples))
    vector = bundle.encoder.encode(noise.astype(np.float32))
    scores, _ = bundle.scorer.score(vector)
    rows = bundle.bank.vectors[:: max(1, len(bundle.rows) // _TRIED)]
    own, _ = bundle.scorer.score(rows)
    if not (np.isfinite(vector).all() and np.isfinite(scores).all() and np.isfinite(own).all()):
        raise BundleError(
            "gives no finite score for a window of noise or of its own bank",
            where=bundle.path,
            remedy="Export the bundle again with `auscult export`.",
        )

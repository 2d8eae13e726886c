"""Alarms that an operator called normal: they wait until somebody accepts them into the bank."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from agent.bank.sound import Recording, alarm_sound
from agent.bundle.manifest import ROWS
from agent.bundle.plain import ROWS_LIMIT, plain_bytes
from agent.bundle.verify import read_manifest
from agent.core.errors import AuscultError, BundleError
from agent.core.storage import write_json
from agent.evidence.record import (
    FEEDBACK,
    EvidenceRecord,
    Feedback,
    alarm_folder,
    alarm_folders,
    read_feedback,
    read_record,
)


def all_pending(root: Path) -> list[tuple[EvidenceRecord, Feedback]]:
    """Alarms of a machine that were answered `normal` and not accepted yet, the oldest first.

    Args:
        root: The machine's evidence.

    Raises:
        AuscultError: A record is damaged.
    """
    found = []
    for folder in alarm_folders(root):
        feedback = read_feedback(folder)
        if feedback is not None and feedback.verdict == "normal" and feedback.accepted is None:
            found.append((read_record(folder), feedback))
    return sorted(found, key=lambda pair: pair[0].raised)


def pending_sound(root: Path, alarm_id: str) -> Recording:
    """The sound of an alarm that waits.

    Raises:
        AuscultError: It has no evidence, nobody called it normal, it is accepted already, or it
            holds no whole window.
    """
    folder = alarm_folder(root.parent, root.name, alarm_id)
    recording = alarm_sound(folder)
    feedback = read_feedback(folder)
    if feedback is None or feedback.verdict != "normal":
        raise AuscultError(
            f"nobody has said that alarm {alarm_id} was normal",
            remedy="Answer it first, with the `feedback` command.",
        )
    if feedback.accepted is not None:
        raise AuscultError(f"alarm {alarm_id} joined with version {feedback.accepted} already")
    if not recording.spans:
        raise AuscultError(f"the evidence of alarm {alarm_id} holds no whole anomalous window")
    return recording


def mark_accepted(root: Path, alarm_id: str, version: int) -> None:
    """Remember the version that an alarm's windows joined."""
    folder = alarm_folder(root.parent, root.name, alarm_id)
    feedback = read_feedback(folder)
    if feedback is not None:
        _write(folder, feedback.model_copy(update={"accepted": str(version)}))


def follow_bank(root: Path, bundle: Path) -> None:
    """Hold what is remembered of answered alarms to the bank that is in use.

    A version that was left, or an alarm that was removed, is in it no more: such an alarm waits
    again, and may be answered otherwise.

    Args:
        root: The machine's evidence.
        bundle: Folder of the bundle in use; when its rows cannot be read nothing changes.

    Raises:
        AuscultError: An answer cannot be written.
    """
    try:
        rows = json.loads(plain_bytes(bundle / ROWS, ROWS_LIMIT))
        held = {str(row["source"]) for row in rows}
        version = read_manifest(bundle).growth
    except (OSError, ValueError, TypeError, KeyError, BundleError):
        return
    for folder in alarm_folders(root):
        try:
            feedback = read_feedback(folder)
        except AuscultError:
            continue  # told of where it is asked for
        if feedback is None or feedback.verdict != "normal":
            continue
        inside = f"alarm/{folder.name}" in held
        if inside == (feedback.accepted is not None):
            continue
        number = str(version.version) if inside and version is not None else None
        _write(folder, feedback.model_copy(update={"accepted": number}))


def feedback_handler(
    root: Path, keep_window: Callable[[str, int], str] | None = None
) -> Callable[[Mapping[str, Any]], Mapping[str, Any]]:
    """Carries out the `feedback` command.

    Args:
        root: `evidence/` in the state directory.
        keep_window: Keeps a recent window of a machine by its index, and gives the id it is kept
            under; None when nothing recent is held.

    Returns:
        A handler of checked fields; it raises AuscultError when there is no evidence of the alarm.
    """

    def handle(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        alarm_id = fields.get("alarm_id")
        if alarm_id is None:
            window = fields.get("window")
            if window is None or keep_window is None:
                raise AuscultError("no evidence is kept here", remedy="Set `evidence.enabled`.")
            alarm_id = keep_window(str(fields["machine"]), int(window))
        folder = alarm_folder(root, str(fields["machine"]), str(alarm_id))
        read_record(folder)
        try:
            before = read_feedback(folder)
        except AuscultError:
            before = None
        if before is not None and before.accepted is not None:
            raise AuscultError(
                f"its windows are in the bank since version {before.accepted}",
                remedy="Take them out first: `auscult bank remove alarm/" + str(alarm_id) + "`.",
            )
        feedback = Feedback(
            verdict=fields["verdict"],
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            by=str(fields.get("operator", ""))[:200],
            comment=str(fields.get("comment", ""))[:2000],
        )
        _write(folder, feedback)
        windows = len(alarm_sound(folder).spans or ())
        return {
            "alarm_id": str(alarm_id),
            "verdict": feedback.verdict,
            "pending_windows": windows if feedback.verdict == "normal" else 0,
        }

    return handle


def _write(folder: Path, feedback: Feedback) -> None:
    write_json(folder / FEEDBACK, feedback.model_dump(mode="json"))

"""Listens in on one machine's pipeline while it is collected from."""

from __future__ import annotations

from collections.abc import Sequence

from agent.bundle.manifest import Row
from agent.collect.recording import Recording
from agent.core.records import AudioBlock, Decision, Level


class CollectTap:
    """What a collector knows of a machine: its sound, and whether an alarm stands."""

    def __init__(self) -> None:
        self.recording: Recording | None = None
        #: The alarm that stands, in words (`alarm 3f2a...`); empty when none does.
        self.alarm = ""

    def hear(self, block: AudioBlock) -> None:
        """Take a captured block."""
        recording = self.recording
        if recording is not None:
            recording.hear(block)

    def judged(self, decision: Decision, rows: Sequence[Row]) -> str:  # noqa: ARG002
        """Remember whether an alarm stands; the collection keeps nothing of it."""
        level = decision.level
        self.alarm = "" if level is Level.NORMAL else f"{level.value} {decision.alarm_id}"
        self.remark()
        return ""

    def remark(self) -> str:
        """Note with a recording of healthy sound that an alarm stands.

        Returns:
            What to tell whoever asked for it; empty when there is nothing to say.
        """
        recording = self.recording
        return "" if recording is None else recording.doubt(self.alarm)

    def close(self) -> None:
        """The pipeline has ended; what was heard is kept when the collector stops."""
        self.alarm = ""

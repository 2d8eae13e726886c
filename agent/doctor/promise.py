"""`auscult doctor`: what happened in service, beside what the bundle promised."""

from __future__ import annotations

from datetime import datetime, timezone

from pydantic import ValidationError

from agent.bundle.manifest import MANIFEST, Manifest
from agent.config.agent import AgentConfig, MachineConfig
from agent.config.decide import FalseAlarms
from agent.core.text import plural
from agent.doctor.finding import Finding, Grade
from agent.evidence.answers import false_in, month_words, months

_MONTHS = 3
_DAYS = 30.0
# A promise is kept within a factor of two.
_FACTOR = 2.0


def check_promise(config: AgentConfig, machine: MachineConfig) -> Finding | None:
    """Do alarms answered "healthy" stay within the promise? None before the first alarm."""
    root = config.state_path / "evidence" / machine.name
    found = months(root)
    if not found:
        return None
    name = f"alarms of {machine.name}"
    text = "; ".join(map(month_words, found[:_MONTHS]))
    promise = _promise(config, machine)
    if promise is None:
        return Finding(name, Grade.OK, f"{text}; no number of false alarms is promised")
    text = f"{text}; promised: {promise.words} of running"
    false = false_in(root, datetime.now(timezone.utc), _DAYS)
    if false <= _FACTOR * max(1.0, promise.per_second * _DAYS * 86_400):
        return Finding(name, Grade.OK, text)
    return Finding(
        name, Grade.WARN, f"{text}; {plural(false, 'false alarm')} in the last {_DAYS:g} days",
        "Let the bank learn from the alarms that were answered healthy (`auscult bank`), or record "
        "more healthy sound where the microphone hangs and train again",
    )  # fmt: skip


def _promise(config: AgentConfig, machine: MachineConfig) -> FalseAlarms | None:
    decide = machine.decide
    if decide.false_alarms is not None or decide.threshold is not None:
        return decide.false_alarms
    try:
        text = (config.bundle_of(machine) / MANIFEST).read_text()
        sight = Manifest.model_validate_json(text).sight
    except (OSError, ValidationError):
        return None  # told by the check of the bundle
    return None if sight is None else sight.kept

"""What the page gets from the agent, and through whom it acts."""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.collect.collector import Collector
from agent.config.agent import AgentConfig
from agent.config.capture import MicrophoneSource
from agent.core.cloud_event import Message
from agent.evidence.ring import Clip
from agent.history.recorder import HistoryRecorder
from agent.machine.days import SoundDays
from agent.publish.live import LiveBoard
from agent.request.audit import AuditTrail
from agent.request.dispatch import Respond
from agent.web.sound import SoundFeed

_ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Backend:
    """The agent, as far as the page is concerned.

    Attributes:
        config: The agent's.
        live: What was told last.
        history: What was told before.
        sounds: By machine, what is heard.
        collector: Who records.
        info: Makes the message `info`, as on MQTT.
        health: Makes `health`, as on MQTT; without a broker its `outbox` is null.
        ask: Has a command carried out: its name, the request's bytes, who takes the answer, and the
            browser's address.
        choose: Has a machine listen to another microphone, for good.
        audit: Is told of what is changed.
        days: How a machine's spectrum changes over days; None while it is not judged.
        recent: A machine's latest sound, as far as it is held: so many seconds.
    """

    config: AgentConfig
    live: LiveBoard
    history: HistoryRecorder
    sounds: Mapping[str, SoundFeed]
    collector: Collector
    info: Callable[[], Message]
    health: Callable[[], Message]
    ask: Callable[[str, bytes, Respond, str], None]
    choose: Callable[[str, MicrophoneSource], None]
    audit: AuditTrail
    days: Callable[[str], SoundDays | None]
    recent: Callable[[str, float], Clip | None]

    @property
    def machines(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(self.config.names)

    def command(self, name: str, request: Mapping[str, Any], client: str) -> Message | None:
        """Carry out a command as if it had come over MQTT; waits for its answer.

        Args:
            name: The command.
            request: Its fields.
            client: The browser's address.

        Returns:
            The answer, or None when there is none within twenty seconds.
        """
        answers: queue.Queue[Message] = queue.Queue(1)
        data = json.dumps(request).encode()
        self.ask(name, data, lambda _, message: answers.put(message), client)
        try:
            return answers.get(timeout=_ANSWER_SECONDS)
        except queue.Empty:
            return None

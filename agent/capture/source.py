"""What every source of sound offers, and the one place that turns a configuration into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from agent.bundle.facts import ConditionsInfo
from agent.capture.microphone import Microphone
from agent.capture.process import ProcessSource
from agent.capture.replay import Replay
from agent.config.capture import AnySource, MicrophoneSource, ReplaySource
from agent.core.records import AudioBlock


class Source(Protocol):
    """Sound, block after block.

    A source is used by one thread, which calls `start` and then iterates `blocks`; `stop` may be
    called from any thread and makes `blocks` end within a fraction of a second.
    """

    @property
    def live(self) -> bool:
        """True when sound goes on whether or not anybody keeps up with it."""
        ...

    def start(self) -> None:
        """Check what can be checked before listening.

        Raises:
            AudioError: It can never work as configured.
        """
        ...

    def blocks(self) -> Iterator[AudioBlock]:
        """Blocks in order of time, at the rate asked for; ends when exhausted or stopped."""
        ...

    def stop(self) -> None:
        """End `blocks`, also while it waits. Idempotent."""
        ...

    def faults(self) -> Mapping[str, int]:
        """How often each kind of trouble was met so far (overruns, reopenings, bad files)."""
        ...

    @property
    def attempts(self) -> int:
        """How often opening it failed so far; grows as long as somebody goes on trying."""
        ...


def as_trained(config: AnySource, conditions: ConditionsInfo | None) -> AnySource:
    """A source that hears the channel its bundle was trained on, unless it names one itself.

    Args:
        config: A machine's `source`.
        conditions: The bundle's; None of older ones.
    """
    if conditions is None or conditions.channel is None or config.channel is not None:
        return config
    return config.model_copy(update={"channel": conditions.channel})


def open_source(config: AnySource, rate: int) -> Source:
    """Make the source that a machine's configuration describes.

    Args:
        config: The machine's `source`.
        rate: Rate of the blocks it shall give (the encoder's), Hz.
    """
    if isinstance(config, ReplaySource):
        return Replay(config, rate)
    if isinstance(config, MicrophoneSource):
        return Microphone(config, rate)
    return ProcessSource(config, rate)

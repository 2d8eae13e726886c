"""Reads the states that the broker retains: a shared subscription is never given these."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import datetime, timezone

from agent.core.broker import BrokerConfig
from plant.watch.link import Link
from plant.watch.reading import RETAINED, Refused, Taken, read

_QUIET_SECONDS = 1.0
_MOST_SECONDS = 120.0


def retained_states(
    config: BrokerConfig, stopping: threading.Event
) -> tuple[list[Taken | Refused], datetime]:
    """Every state that the broker has kept, and when it was asked for them.

    A state that this server got after that moment is newer than these.

    Args:
        config: The broker.
        stopping: Ends it early.

    Raises:
        DeliveryError: The broker is away.
    """
    asked = datetime.now(timezone.utc)
    link = Link(config, f"auscult-plant-states-{secrets.token_hex(6)}", ahead=1000)
    found: dict[str, Taken | Refused] = {}
    link.open()
    try:
        # QoS 0: of QoS 1 a broker may drop what exceeds its queue.
        link.subscribe([f"{config.prefix}/{one}" for one in RETAINED], qos=0, retained=True)
        began = heard = time.monotonic()
        while not stopping.is_set():
            now = time.monotonic()
            if not link.subscribed:
                heard = now
            if now - heard > _QUIET_SECONDS or now - began > _MOST_SECONDS:
                break
            for message in link.turn(0.1):
                # What is published meanwhile comes by the shared subscription, too.
                if message.retained and message.payload:
                    heard = now
                    found[message.topic] = read(
                        config.prefix, message.topic, message.payload, asked, retained=True
                    )
    finally:
        link.close()
    return list(found.values()), asked

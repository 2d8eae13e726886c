"""Connections to the page: so many at once, each prompt, so that none of them costs an alarm.

The page shares its process, and so its file handles, with what listens and raises alarms. uvicorn
answers `503` beyond a number of connections, and holds every one of them open; here those beyond it
are hung up on at once, as are those that say nothing, or stop halfway through a request or answer.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

log = logging.getLogger(__name__)

MOST, MOST_OF_CLIENT = 64, 32
#: Handles that the rest of the agent has for sure, whatever its limit.
RESERVE = 192
#: A whole request has to be there within so long, and an answer has to be taken, seconds.
REQUEST_SECONDS, TAKE_SECONDS = 10.0, 30.0
_FEWEST = 8
_LOCAL = "this device"


def bucket_of(address: str) -> str:
    """Whom an address counts for: an IPv6 address for its /64, which one client has whole, and all
    of this device's own for one.
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback:
        return _LOCAL
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


def is_local(address: str) -> bool:
    """Whether an address is this device's own."""
    return bucket_of(address) == _LOCAL


def affordable() -> int:
    """How many connections the limit on file handles leaves room for, `MOST` at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST
    # Each may open a file or two beside itself.
    return max(_FEWEST, min(MOST, (soft - RESERVE) // 3))


class Door:
    """Counts who is in. Of the server's own thread alone.

    Args:
        most: Connections at once.
        of_client: Of them from one address (or IPv6 /64); None where all come through a proxy.
            Those of this device itself are only counted among all.
    """

    def __init__(self, most: int, of_client: int | None) -> None:
        self.most = most
        self._of_client = of_client
        self._in: Counter[str] = Counter()

    @property
    def inside(self) -> int:
        """How many are in."""
        return self._in.total()

    def enter(self, address: str) -> str | None:
        """Let one in; whom it counts for, None when there is no room."""
        bucket = bucket_of(address)
        crowd = self._of_client is not None and not is_local(address)
        if self.inside >= self.most or (crowd and self._in[bucket] >= (self._of_client or 0)):
            log.warning(
                "web: no room for another connection (from %s): %d are open", address, self.inside
            )
            return None
        self._in[bucket] += 1
        return bucket

    def leave(self, bucket: str) -> None:
        """One is gone."""
        self._in[bucket] -= 1
        if not self._in[bucket]:
            del self._in[bucket]


def protocol(door: Door) -> type[H11Protocol]:
    """Uvicorn's protocol, with a door before it and time-outs on both ways."""

    class Prompt(H11Protocol):
        """One connection."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._bucket: str | None = None
            self._asking: asyncio.TimerHandle | None = None
            self._taking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            peer = transport.get_extra_info("peername") or ("",)
            self._bucket = door.enter(str(peer[0]))
            if self._bucket is None:
                transport.abort()
                return
            super().connection_made(transport)
            self._asking = self.loop.call_later(REQUEST_SECONDS, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            for timer in (self._asking, self._taking):
                if timer is not None:
                    timer.cancel()
            if self._bucket is not None:
                door.leave(self._bucket)
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            cycle = self.cycle
            whole = cycle is not None and not (cycle.response_complete or cycle.more_body)
            if whole and self._asking is not None:
                self._asking.cancel()
                self._asking = None
            elif not whole and self._asking is None:
                # More of it does not put the end off.
                self._asking = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._taking = self.loop.call_later(TAKE_SECONDS, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._taking is not None:
                self._taking.cancel()
                self._taking = None

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            # What is left to be sent may never be taken.
            self._taking = self._taking or self.loop.call_later(TAKE_SECONDS, self.transport.abort)

    return Prompt

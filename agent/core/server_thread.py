"""A web server (uvicorn) in a thread of its own, and the socket that it listens on."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import uvicorn


class ServerThread:
    """Serves from `start` to `stop`.

    Args:
        settings: What is served, and how.
        listening: The socket; closed at the end.
        name: Of the thread.
        start_seconds: Longest that `start` waits.
        stop_seconds: Longest that `stop` waits.
    """

    def __init__(
        self,
        settings: uvicorn.Config,
        listening: socket.socket,
        name: str,
        *,
        start_seconds: float = 10.0,
        stop_seconds: float = 3.0,
    ) -> None:
        import uvicorn  # noqa: PLC0415 - an extra

        self._start_seconds, self._stop_seconds = start_seconds, stop_seconds
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name=name, daemon=True
        )

    def start(self) -> None:
        """Begin to serve, and wait until it does."""
        self._thread.start()
        deadline = time.monotonic() + self._start_seconds
        while not self._server.started and self._thread.is_alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)

    def stop(self) -> None:
        """End it. Idempotent."""
        self._server.should_exit = True
        self._thread.join(self._stop_seconds)


def listening_socket(host: str, port: int, *, backlog: int = 64) -> socket.socket:
    """A TCP socket that listens, for a server in an event loop.

    Args:
        host: Address or name to listen on.
        port: Its port; 0 for any.
        backlog: Connections that may wait to be accepted.

    Raises:
        OSError: The address cannot be had, or there is no such host.
        OverflowError: There is no such port.
    """
    family, kind, protocol, _, place = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(backlog)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening

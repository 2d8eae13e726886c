"""Serves a repository's files by digest over HTTP(S), in ranges: `GET /objects/<sha256>`."""

from __future__ import annotations

import hmac
import logging
import re
import ssl
from contextlib import suppress
from typing import Any

from agent.core.errors import ConfigError
from agent.core.secret_file import read_secret
from agent.core.server_thread import ServerThread, listening_socket
from plant.rollout.config import RolloutConfig
from plant.rollout.repository import Repository

log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")


def content_app(repository: Repository, token: str | None) -> Any:
    """The ASGI application.

    Args:
        repository: What is served.
        token: What devices must show (`Authorization: Bearer ...`); None asks for nothing.
    """
    from starlette.applications import Starlette  # noqa: PLC0415 - an extra
    from starlette.requests import Request  # noqa: PLC0415
    from starlette.responses import FileResponse, PlainTextResponse, Response  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    def give(request: Request) -> Response:
        shown = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(
            shown.encode(), f"Bearer {token}".encode()
        ):
            return PlainTextResponse("the token is wrong or missing\n", 401)
        digest = request.path_params["digest"]
        path = repository.object(digest)
        if not _DIGEST.fullmatch(digest) or not path.is_file():
            return PlainTextResponse("there is no such content\n", 404)
        return FileResponse(
            path,
            media_type="application/octet-stream",
            headers={"Cache-Control": "public, max-age=31536000, immutable"},
        )

    return Starlette(routes=[Route("/objects/{digest}", give, methods=["GET", "HEAD"])])


class ContentServer:
    """A server in a thread of its own.

    Args:
        repository: What is served.
        config: Where.
    """

    def __init__(self, repository: Repository, config: RolloutConfig) -> None:
        self._repository, self._config = repository, config
        self._tls: ssl.SSLContext | None = None
        self._shown: tuple[int, ...] = ()
        self._thread: ServerThread | None = None
        #: The port that is listened on, once started.
        self.port = config.port

    def start(self) -> None:
        """Begin to serve.

        Raises:
            ConfigError: The address, the token or the certificate cannot be used.
        """
        import uvicorn  # noqa: PLC0415 - an extra

        config = self._config
        token = None
        if config.token_file is not None:
            token = read_secret(
                config.token_file, "the token file of `rollout`", remedy="Write a token into it."
            )
            if not token:
                raise ConfigError("holds no token on its first line", where=config.token_file)
        try:
            listener = listening_socket(config.host, config.port)
        except OSError as fault:
            raise ConfigError(
                f"cannot listen on {config.host}:{config.port}: {fault.strerror}",
                remedy="Give another `rollout.host` or `rollout.port`.",
            ) from fault
        self.port = listener.getsockname()[1]
        try:
            settings = uvicorn.Config(
                content_app(self._repository, token), log_level="warning", access_log=False,
                ssl_certfile=None if config.cert_file is None else str(config.cert_file),
                ssl_keyfile=None if config.key_file is None else str(config.key_file),
            )  # fmt: skip
            settings.load()
        except (OSError, ValueError) as fault:
            listener.close()
            raise ConfigError(
                f"the certificate cannot be used: {fault}",
                where=config.cert_file,
                remedy="Certificate and key must be PEM, the key without a pass phrase.",
            ) from fault
        self._tls, self._shown = settings.ssl, self._marks()
        self._thread = ServerThread(settings, listener, "content")
        self._thread.start()

    def renew(self) -> None:
        """Show a certificate that was renewed to whoever connects from now on."""
        config, marks = self._config, self._marks()
        if self._tls is None or config.cert_file is None or marks == self._shown:
            return
        try:
            # Of its own first: a pair that does not fit must not spoil the one that is shown.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._tls):
                context.load_cert_chain(config.cert_file, config.key_file)
        except (OSError, ValueError) as fault:
            log.warning("%s: cannot be used, the one before is shown: %s", config.cert_file, fault)
            return
        self._shown = marks
        log.info("%s: the new certificate is shown", config.cert_file)

    def _marks(self) -> tuple[int, ...]:
        """Changes when a file of the certificate does."""
        marks: list[int] = []
        for path in (self._config.cert_file, self._config.key_file):
            with suppress(OSError):
                if path is not None:
                    about = path.stat()
                    marks += [about.st_mtime_ns, about.st_ino, about.st_size]
        return tuple(marks)

    def stop(self) -> None:
        """Serve no more. Idempotent."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

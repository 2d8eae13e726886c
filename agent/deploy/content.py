"""Content by its SHA-256: found on the device, or fetched over HTTP from where it was left off."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from agent.bundle.manifest import FileRecord
from agent.config.offers import OffersConfig
from agent.core.errors import AuscultError, ConfigError
from agent.core.secret_file import read_secret
from agent.core.storage import sync

_CHUNK = 1 << 16
_PART = ".part"


class FetchError(AuscultError):
    """Content that cannot be fetched now; later it may be."""


class WrongContentError(FetchError):
    """The server gave other bytes than were asked for: a fault on the way, none of the bundle."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        return None


class Content:
    """A folder of files by digest, filled from the device's own bundles and from a server.

    A file that is fetched grows as `<sha256>.part` and takes its name when it is whole and its
    digest is right: a process that is killed goes on where it was.

    Args:
        config: The server.
        folder: Where files are kept meanwhile.
        stopping: Whether to give up.
    """

    def __init__(
        self, config: OffersConfig, folder: Path, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._config = config
        self._folder = folder
        self._stopping = stopping
        #: Bytes that came over the network, and that were found here.
        self.fetched, self.reused = 0, 0

    def place(self, sha256: str) -> Path:
        """Where a file's bytes are, once they are here."""
        return self._folder / sha256

    def small(self, sha256: str, limit: int) -> bytes:
        """A short file whose length is not known beforehand: manifest and signature.

        Raises:
            FetchError: It cannot be fetched now.
            WrongContentError: It is longer than `limit` bytes, or of another digest.
        """
        place = self.place(sha256)
        with suppress(FileNotFoundError):
            kept = place.read_bytes()
            if hashlib.sha256(kept).hexdigest() == sha256:
                return kept
        with self._asked(sha256, 0) as answer, self._on_the_way(sha256):
            data: bytes = answer.read(limit + 1)
            if answer.length and len(data) <= limit:  # bytes that were announced and never came
                raise FetchError("the connection was lost", where=self._url(sha256))
        if len(data) > limit or hashlib.sha256(data).hexdigest() != sha256:
            raise WrongContentError("is not what was offered", where=self._url(sha256))
        self._folder.mkdir(parents=True, exist_ok=True)
        part = self.place(sha256 + _PART)
        part.write_bytes(data)
        part.replace(place)
        self.fetched += len(data)
        return data

    def require(self, record: FileRecord, here: Mapping[str, Path]) -> Path:
        """A file: kept already, copied from a bundle on this device, or fetched.

        Args:
            record: Its digest and length.
            here: Files of bundles on this device, by digest.

        Returns:
            Where it is.

        Raises:
            FetchError: It cannot be fetched now.
            WrongContentError: The server gave something else.
            OSError: The disk refuses it.
        """
        place = self.place(record.sha256)
        if place.is_file() and place.stat().st_size == record.size:
            return place
        self._folder.mkdir(parents=True, exist_ok=True)
        source = here.get(record.sha256)
        if source is not None and self._copy(source, record):
            return place
        self._fetch(record)
        return place

    def _copy(self, source: Path, record: FileRecord) -> bool:
        """Take a file of another bundle, if it is what it is said to be."""
        copy, digest, size = self.place(f"{record.sha256}.copy"), hashlib.sha256(), 0
        with suppress(OSError), source.open("rb") as file, copy.open("wb") as to:
            while size <= record.size and (chunk := file.read(_CHUNK)):
                digest.update(chunk)
                size += to.write(chunk)
            to.flush()
            os.fsync(to.fileno())
        if (digest.hexdigest(), size) != (record.sha256, record.size):
            copy.unlink(missing_ok=True)
            return False
        copy.replace(self.place(record.sha256))
        self.reused += record.size
        return True

    def _fetch(self, record: FileRecord) -> None:
        part = self.place(record.sha256 + _PART)
        begin = part.stat().st_size if part.is_file() else 0
        well = begin <= record.size and self._completed(part, begin, record)
        if not well and begin:  # a power cut may leave a beginning that is none
            well = self._completed(part, 0, record)
        if not well:
            part.unlink()
            raise WrongContentError("is not what was offered", where=self._url(record.sha256))
        part.replace(self.place(record.sha256))
        sync(self._folder)

    def _completed(self, part: Path, begin: int, record: FileRecord) -> bool:
        """Fetch a file from a byte on; whether it is what was offered then."""
        if begin < record.size or begin == 0:
            with self._asked(record.sha256, begin) as answer:
                if answer.status != http.client.PARTIAL_CONTENT:
                    begin = 0  # a server that knows no ranges gives all of it
                # Unbuffered: what was received is kept by a process that is killed.
                with part.open("ab" if begin else "wb", buffering=0) as file:
                    self._receive(answer, file, record.size - begin, record.sha256)
        digest, size = hashlib.sha256(), 0
        with part.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
            os.fsync(file.fileno())
        return (digest.hexdigest(), size) == (record.sha256, record.size)

    def _receive(self, answer: Any, file: IO[bytes], left: int, sha256: str) -> None:
        while True:
            with self._on_the_way(sha256):
                chunk = answer.read1(min(_CHUNK, left + 1))
            if not chunk:
                break
            left -= len(chunk)
            if left < 0:
                raise WrongContentError("is longer than was offered", where=self._url(sha256))
            file.write(chunk)
            self.fetched += len(chunk)
            if self._stopping():
                raise FetchError("the agent is stopping")
        if left > 0:
            raise FetchError("the connection was lost", where=self._url(sha256))

    @contextmanager
    def _on_the_way(self, sha256: str) -> Iterator[None]:
        """What the network does while an answer is read is no fault of what was offered."""
        try:
            yield
        except (OSError, http.client.HTTPException) as fault:  # also of ssl, and no route any more
            raise FetchError(
                f"the connection was lost: {fault}", where=self._url(sha256)
            ) from fault

    def _url(self, sha256: str) -> str:
        return f"{self._config.url.rstrip('/')}/objects/{sha256}"

    def _asked(self, sha256: str, begin: int) -> Any:
        """The server's answer, from a byte on."""
        url = self._url(sha256)
        request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})  # noqa: S310 - http(s) alone, by the schema
        if begin:
            request.add_header("Range", f"bytes={begin}-")
        if self._config.token_file is not None:
            token = read_secret(
                self._config.token_file, "the token file of `offers`",
                remedy="Write the plant's token into it.",
            )  # fmt: skip
            request.add_header("Authorization", f"Bearer {token}")
        try:
            context = ssl.create_default_context(
                cafile=None if self._config.ca_file is None else str(self._config.ca_file)
            )
        except (OSError, ssl.SSLError) as fault:
            raise ConfigError(
                f"offers.ca_file: cannot be used: {fault}", where=self._config.ca_file
            ) from fault
        opener = urllib.request.build_opener(
            _NoRedirect(), urllib.request.HTTPSHandler(context=context)
        )
        try:
            return opener.open(request, timeout=self._config.timeout_seconds)
        except urllib.error.HTTPError as fault:
            fault.close()
            raise FetchError(
                f"the server answers {fault.code} {fault.reason}", where=url
            ) from fault
        except (OSError, http.client.HTTPException) as fault:
            reason = getattr(fault, "reason", fault)
            raise FetchError(f"not reached: {reason}", where=url) from fault

    def clear(self) -> None:
        """Remove what was kept."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                path.unlink(missing_ok=True)

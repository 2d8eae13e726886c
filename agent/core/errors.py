"""What auscult raises when the world is not as it should be."""

from __future__ import annotations

from pathlib import Path

from agent.core.text import redacted, shown, visible


class AuscultError(Exception):
    """A fault the user can mend: it says what, where, and how.

    Args:
        problem: What is wrong, in one sentence without a trailing full stop.
        where: The file (or topic, device, field path) at fault, when there is one.
        remedy: What to do about it, in one sentence.
    """

    def __init__(self, problem: str, *, where: str | Path | None = None, remedy: str = "") -> None:
        # Addresses of cameras and the like have passwords in them.
        self.problem = redacted(problem)
        self.where = None if where is None else redacted(visible(shown(where)))
        self.remedy = remedy
        super().__init__(self.__str__())

    def __str__(self) -> str:
        """`where: problem. remedy`, leaving out what is absent."""
        head = f"{self.where}: {self.problem}" if self.where else self.problem
        if not self.remedy or head.endswith("\n"):  # below a list, on a line of its own
            return head + self.remedy
        stop = "" if head.endswith(("?", ".", "!")) else "."
        return f"{head}{stop} {self.remedy}"


class ConfigError(AuscultError):
    """A configuration file or preset that does not validate."""


class AudioError(AuscultError):
    """A recording or an audio device that cannot be used."""


class BundleError(AuscultError):
    """A bundle that is missing, incomplete, altered, or too new to read."""


class MissingBundleError(BundleError):
    """A bundle of which nothing lies where it is looked for."""


class DeliveryError(AuscultError):
    """A broker that cannot be reached or refuses us for good."""


class LearnError(AuscultError):
    """Recordings of which no bundle can be made that a device may rely on."""

"""Sends one message to several addresses by Apprise, in a process of its own.

Apprise brings some fifty megabytes, for a message now and then: it is loaded for each, and gone
again. Run as `python -m agent.notify.send`, it reads a request as JSON from standard input and
writes, for each address, what went wrong (empty for nothing).
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_SECONDS = 120.0
_LONGEST = 300


def send(addresses: Sequence[str], title: str, text: str, *, check: bool = False) -> list[str]:
    """Send a message, or see whether it could be.

    Args:
        addresses: As Apprise writes them.
        title: In a few words.
        text: The rest.
        check: Only look whether the addresses can be understood.

    Returns:
        By address, why it did not go; empty where it did.
    """
    request = {"addresses": list(addresses), "title": title, "text": text, "check": check}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agent.notify.send"],
            input=json.dumps(request).encode(),
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
        found = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return [f"no answer within {_SECONDS:.0f} s"] * len(addresses)
    except subprocess.CalledProcessError as fault:
        lines = fault.stderr.decode(errors="replace").strip().splitlines() or [str(fault)]
        return [lines[-1][:_LONGEST]] * len(addresses)
    except (OSError, ValueError) as fault:
        return [str(fault)] * len(addresses)
    return [str(one) for one in found]


def main() -> None:
    """Carry out the request."""
    import apprise  # noqa: PLC0415 - an extra, for this process alone

    request: dict[str, Any] = json.load(sys.stdin)
    said = _Said()
    logger = logging.getLogger("apprise")
    logger.addHandler(said)
    logger.propagate = False
    answers = []
    for address in request["addresses"]:
        said.lines.clear()
        target = apprise.Apprise.instantiate(address)
        if target is None:
            answers.append("Apprise does not know such an address")
        elif request["check"] or target.notify(body=request["text"], title=request["title"]):
            answers.append("")
        else:
            why = "; ".join(said.lines) or "it was not taken"
            answers.append(why[:_LONGEST])
    json.dump(answers, sys.stdout)


class _Said(logging.Handler):
    """Keeps what Apprise says of a failure, which holds no address."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


if __name__ == "__main__":
    main()

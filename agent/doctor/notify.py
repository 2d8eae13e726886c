"""Can people be notified as configured? For `auscult doctor`; no message is sent."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from agent.config.notify import NotifyConfig
from agent.core.errors import AuscultError
from agent.core.text import plural
from agent.doctor.finding import Finding, Grade
from agent.notify.publisher import read_addresses
from agent.notify.send import send

_NAME = "notifications"


def check_notify(config: NotifyConfig) -> Iterator[Finding]:
    """Look at the addresses, and who may read them.

    Args:
        config: The section.
    """
    if importlib.util.find_spec("apprise") is None:
        yield Finding(
            _NAME, Grade.FAIL, "Apprise is not installed", "pip install 'auscult[notify]'"
        )
        return
    files = [config.urls_file]
    if config.escalation is not None:
        files.append(config.escalation.urls_file)
    for file in dict.fromkeys(files):
        try:
            found = read_addresses(file)
        except AuscultError as fault:
            yield Finding.failed(_NAME, fault)
            continue
        wrong = {
            number: why for number, why in enumerate(send(found, "", "", check=True), 1) if why
        }
        if wrong:
            said = "; ".join(f"address {number}: {why}" for number, why in wrong.items())
            yield Finding(
                _NAME, Grade.FAIL, f"{file}: {said}",
                "Write it as Apprise's list of services says; `auscult notify` then tries it",
            )  # fmt: skip
        else:
            number = plural(len(found), "address", "addresses")
            yield Finding.of_secret(_NAME, file, f"{number}, not tried: `auscult notify` does")

"""The systemd unit as this installation needs it: paths, user, what this systemd understands."""

from __future__ import annotations

import hashlib
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from agent.core.errors import AuscultError, ConfigError

PLAIN = "auscult.service"
TEMPLATE = "auscult@.service"
# Names of credentials: the broker's password, and the page's.
PASSWORD = "mqtt-password"  # noqa: S105
PAGE_PASSWORD = "web-password"  # noqa: S105
CREDENTIALS = "${CREDENTIALS_DIRECTORY}"
_PLACES = (
    Path(__file__).parent / "units",  # in a wheel
    Path(__file__).parent.parent.parent / "systemd",  # in a checkout
)
# Settings that only newer versions know; older ones would warn at every start.
_SINCE = {"RestartSteps": 254, "RestartMaxDelaySec": 254}
# Where a package of the distribution puts its units.
PACKAGED = Path("/lib/systemd/system")
_MARK = re.compile(
    r"\A# Written by `auscult install-service`, sha256 of the rest: ([0-9a-f]{64})\n"
)
# Settings about when a service runs, which a command run in its place has no use for.
_RUNNING = re.compile(r"Type$|NotifyAccess$|Watchdog|Exec|Timeout|Restart|Syslog|OOM")
# What `ProtectHome=` and `PrivateTmp=` take out of the service's sight.
_HOMES = ("/home", "/root", "/run/user")
_PRIVATE = ("/tmp", "/var/tmp")  # noqa: S108 - named, not used


@dataclass(frozen=True, slots=True)
class Installation:
    """What a unit is written for.

    Attributes:
        command: Absolute path of the `auscult` command, or several words that do the same.
        config: Absolute path of the configuration; its name is `%i.yaml` in a template.
        user: Existing user to run as; None for one of systemd's making.
        systemd: Version of systemd.
    """

    command: tuple[str, ...]
    config: Path
    user: str | None = None
    systemd: int = 0


def own_command() -> tuple[str, ...]:
    """How this very installation of auscult is run."""
    script = Path(sys.prefix) / "bin" / "auscult"
    return (str(script),) if script.is_file() else (sys.executable, "-m", "agent.cli")


def render(name: str, installation: Installation) -> str:
    """The unit's text.

    Args:
        name: `PLAIN` or `TEMPLATE`.
        installation: What it is for.

    Raises:
        ConfigError: The unit is not part of this installation of auscult.
    """
    words = (*installation.command, "run", "--config", str(installation.config))
    own = "-%i" if name == TEMPLATE else ""
    lines = []
    for line in _text(name).splitlines():
        key, _, value = line.partition("=")
        if _SINCE.get(key, 0) > installation.systemd:
            continue
        if key == "ExecStart":
            value = " ".join(map(_quote, words))
        elif key == "LoadCredential":
            secret = value.partition(":")[0]
            value = f"{secret}:{installation.config.parent / (secret + own)}"
        elif installation.user is not None and (
            key == "DynamicUser" or line.startswith("Environment=HOME=")
        ):
            continue
        elif installation.user is not None and key == "User":
            value = installation.user
        elif installation.user is not None and key == "ProtectHome":
            value = "read-only"
        lines.append(f"{key}={value}" if "=" in line else line)
    body = "\n".join(lines) + "\n"
    return f"# Written by `auscult install-service`, sha256 of the rest: {_digest(body)}\n{body}"


def surroundings(unit: str, instance: str = "") -> list[str]:
    """What a unit says of the process' surroundings (user, folders, rights), not of its running.

    Args:
        unit: The unit and its drop-ins, as `systemctl cat` gives them.
        instance: Replaces `%i`.
    """
    section, found = "", []
    for line in map(str.strip, unit.splitlines()):
        if line.startswith("["):
            section = line
        key, equals, _ = line.partition("=")
        if section == "[Service]" and equals and line[0] not in "#;" and not _RUNNING.match(key):
            found.append(line.replace("%i", instance))
    return found


def changed_by_hand(text: str) -> bool:
    """Whether a unit is no longer (or never was) what `render` wrote."""
    mark = _MARK.match(text)
    return mark is None or mark[1] != _digest(text[mark.end() :])


def out_of_reach(paths: Iterable[Path], *, user: str | None) -> list[str]:
    """What the service would not be able to read, and why.

    Args:
        paths: Files and folders it needs.
        user: The user it runs as; None for one of systemd's making, who owns nothing. A user's
            own rights are for them to see to: only what nobody could reach is told.
    """
    found = []
    for path in dict.fromkeys(paths):
        place = path.absolute()
        if user is None and (home := _below(place, _HOMES) or _below(place.resolve(), _HOMES)):
            found.append(f"{path}: below {home}, which the service cannot see")
        elif hidden := _below(place.resolve(), _PRIVATE):
            found.append(f"{path}: below {hidden}, of which the service has its own")
        elif user is None and (closed := _closed(place.resolve())):
            found.append(f"{path}: {closed} is not open to others (chmod o+rX)")
    return found


def write_unit(path: Path, text: str, *, force: bool) -> bool:
    """Write a unit, but never over one that somebody has changed.

    Args:
        path: Where.
        text: The unit.
        force: Write over it all the same; the old one is kept beside it as `.old`.

    Returns:
        Whether anything had to be written.

    Raises:
        AuscultError: It was changed, or cannot be written.
    """
    try:
        present = path.read_text(encoding="utf-8") if path.exists() else None
        if present == text:
            return False
        if present is not None and changed_by_hand(present):
            if not force:
                raise AuscultError(
                    "the unit was changed by hand, and is left alone",
                    where=path,
                    remedy="Move the changes to a drop-in (`systemctl edit`), or give --force: "
                    "the present one is then kept beside it",
                )
            path.replace(path.with_name(path.name + ".old"))
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
    except OSError as fault:
        raise AuscultError(
            f"the unit cannot be written: {fault.strerror}",
            where=path,
            remedy="Run it as root (sudo), or see what it would write with --dry-run",
        ) from fault
    return True


def packaged(name: str, text: str) -> Path | None:
    """The unit that a package has brought and that is as `render` would write it; None without.

    Args:
        name: `PLAIN` or `TEMPLATE`.
        text: What `render` gives.
    """
    place = PACKAGED / name
    try:
        same = place.read_text(encoding="utf-8") == text.partition("\n")[2]
    except OSError:
        return None
    return place if same else None


def _text(name: str) -> str:
    for place in _PLACES:
        if (place / name).is_file():
            return (place / name).read_text(encoding="utf-8")
    raise ConfigError(
        "the unit is missing from this installation", where=name, remedy="Install auscult anew."
    )


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _quote(word: str) -> str:
    """A word of a command line as systemd reads it; `%i` stays a specifier."""
    word = re.sub(r"%(?!i)", "%%", word).replace("$", "$$")
    if re.fullmatch(r"[\w./%@:=+,$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _below(path: Path, places: tuple[str, ...]) -> str:
    return next((place for place in places if path.is_relative_to(place)), "")


def _closed(path: Path) -> str:
    """The first part of a path that others may not enter or read; empty when there is none."""
    for part in (*reversed(path.parents), path):
        try:
            mode = part.stat().st_mode
        except OSError:
            return ""  # not there: told elsewhere
        needed = stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH
        if not mode & needed:
            return str(part)
    return ""

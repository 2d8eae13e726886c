"""Users of the plant's page: their roles, passwords and sessions."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import get_args

import sqlalchemy as sa

from agent.core.errors import AuscultError
from plant.store.database import Database
from plant.store.tables import SESSIONS, USERS
from plant.watch.config import Role

ROLES: tuple[Role, ...] = get_args(Role)
_NAME = re.compile(r"[^\x00-\x1f\x7f/ ]{1,100}")
_SHORTEST, _LONGEST = 8, 1024
# 64 MiB and about a tenth of a second for each guess (RFC 7914; OWASP's advice).
_N, _R, _P = 2**16, 8, 1
_MEMORY = 128 * 1024 * 1024


class UserError(AuscultError):
    """A user that cannot be added or changed so."""


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may use the page.

    Attributes:
        name: As they log in.
        role: What they may do; each may do what those before it may: viewer, operator, admin.
    """

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Whether they may do what a role may."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Users:
    """Keeps users and their sessions. Safe for several threads and instances.

    Args:
        database: Migrated.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, name: str, role: Role, password: str | None) -> bool:
        """Add a user, or change them.

        Args:
            name: Theirs.
            role: Theirs from now on.
            password: New; None leaves the present one, or gives none: then they come by a proxy.

        Returns:
            Whether they are new.

        Raises:
            UserError: Name or password will not do.
        """
        if not _NAME.fullmatch(name):
            raise UserError(
                "a user's name has 1 to 100 characters, without spaces and '/'", where=name[:100]
            )
        values: dict[str, str] = {"role": role}
        if password is not None:
            if not _SHORTEST <= len(password) <= _LONGEST:
                raise UserError(f"a password has {_SHORTEST} to {_LONGEST} characters", where=name)
            values["password"] = hashed(password)
        now = datetime.now(timezone.utc)
        with self._database.writing() as connection:
            found = connection.execute(
                sa.update(USERS).where(USERS.c.name == name).values(**values)
            )
            if found.rowcount:
                # A new password or role ends what was begun with the old one.
                connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.user == name))
                return False
            connection.execute(sa.insert(USERS).values(name=name, created=now, **values))
        return True

    def remove(self, name: str) -> bool:
        """Remove a user, and end their sessions; whether there was one."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.user == name))
            return bool(connection.execute(sa.delete(USERS).where(USERS.c.name == name)).rowcount)

    def all(self) -> list[dict[str, object]]:
        """Every user by name, without passwords."""
        query = sa.select(
            USERS.c.name, USERS.c.role, USERS.c.created, USERS.c.password.is_not(None).label("own")
        ).order_by(USERS.c.name)
        with self._database.reading() as connection:
            return [
                {"name": row.name, "role": row.role, "created": row.created, "password": row.own}
                for row in connection.execute(query)
            ]

    def find(self, name: str) -> User | None:
        """A user by name."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(USERS).where(USERS.c.name == name)).first()
        return None if row is None else User(row.name, row.role)

    def check(self, name: str, password: str) -> User | None:
        """The user who has this password; None when there is none. Takes as long either way."""
        with self._database.reading() as connection:
            row = connection.execute(sa.select(USERS).where(USERS.c.name == name)).first()
        stored = row.password if row is not None and row.password else _NOBODY
        right = matches(password[: _LONGEST + 1], stored)
        return User(row.name, row.role) if row is not None and row.password and right else None

    def open(self, name: str, hours: float) -> str:
        """Begin a session; its token, of which only a digest is kept."""
        token, now = secrets.token_urlsafe(32), datetime.now(timezone.utc)
        with self._database.writing() as connection:
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.expires < now))
            connection.execute(
                sa.insert(SESSIONS).values(
                    digest=_digest(token), user=name, expires=now + timedelta(hours=hours)
                )
            )
        return token

    def session(self, token: str) -> User | None:
        """Whose session a token is; None when it is nobody's, or is over."""
        query = (
            sa.select(USERS.c.name, USERS.c.role)
            .select_from(SESSIONS.join(USERS, USERS.c.name == SESSIONS.c.user))
            .where(
                SESSIONS.c.digest == _digest(token),
                SESSIONS.c.expires > datetime.now(timezone.utc),
            )
        )
        with self._database.reading() as connection:
            row = connection.execute(query).first()
        return None if row is None else User(row.name, row.role)

    def close(self, token: str) -> None:
        """End a session."""
        with self._database.writing() as connection:
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.digest == _digest(token)))


def hashed(password: str) -> str:
    """A password as it is kept: `scrypt$N$r$p$salt$hash`."""
    salt = secrets.token_bytes(16)
    found = _scrypt(password, salt, _N, _R, _P)
    return "$".join(
        ("scrypt", str(_N), str(_R), str(_P), b64encode(salt).decode(), b64encode(found).decode())
    )


def matches(password: str, stored: str) -> bool:
    """Whether a password is the one that is kept."""
    kind, n, r, p, salt, known = stored.split("$")
    if kind != "scrypt":
        return False
    found = _scrypt(password, b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, b64decode(known))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY,
        dklen=32,
    )  # fmt: skip


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


# Of nobody: who asks for a name that is not there waits as long as who gives a wrong password.
_NOBODY = f"scrypt${_N}${_R}${_P}${b64encode(bytes(16)).decode()}${b64encode(bytes(32)).decode()}"

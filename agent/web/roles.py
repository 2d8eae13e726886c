"""The roles of people on the page: who reads, who works with alarms, who changes the detector."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from agent.request.roles import ROLES, Role

# The connection's role, in a request's scope.
SCOPE = "auscult.role"


class PageRole(IntEnum):
    """What somebody may do; each may do what those before it may.

    A viewer reads. An operator works with alarms: acknowledges, answers, shelves, mutes, records,
    listens. An admin says what is healthy and what judges: learns, uploads, grows the bank,
    accepts drift.
    """

    ANYONE = 0
    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """For people and in JSON."""
        return self.name.lower()


_OF_COMMANDS: Mapping[Role, PageRole] = {
    Role.OPERATE: PageRole.OPERATOR,
    Role.TEACH: PageRole.ADMIN,
    Role.MANAGE: PageRole.ADMIN,
}
# Asking changes nothing; answering an alarm is an operator's work, and what follows of it is not.
_OTHERWISE: Mapping[str, PageRole] = {"why": PageRole.VIEWER, "feedback": PageRole.OPERATOR}


def role_for(command: str) -> PageRole:
    """The least role that may give a command on the page."""
    return _OTHERWISE.get(command) or _OF_COMMANDS[ROLES[command]]


def role_named(word: str | None) -> PageRole | None:
    """The role of a name, in any case; None of another word."""
    known = {role.word: role for role in PageRole if role is not PageRole.ANYONE}
    return known.get((word or "").strip().lower())

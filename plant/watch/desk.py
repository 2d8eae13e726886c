"""Commands to devices: acknowledge, shelve, mute, answer; over MQTT, as docs/reference/mqtt.md."""

from __future__ import annotations

import json
import logging
import secrets
from datetime import datetime, timezone
from typing import Any

import sqlalchemy as sa
from pydantic import ValidationError

from agent.core.broker import BrokerConfig
from agent.core.errors import AuscultError, DeliveryError
from agent.core.schema import explain
from agent.core.secret_file import read_secret
from agent.request.commands import Ack, Feedback, Mute, Request, Shelve
from plant.store.database import Database
from plant.store.tables import COMMANDS
from plant.watch.config import WatchConfig
from plant.watch.link import Link

log = logging.getLogger(__name__)

_TAKEN_SECONDS = 5.0
#: What may be asked for from the page, and the fields of each.
MODELS: dict[str, type[Request]] = {
    "ack": Ack, "shelve": Shelve, "mute": Mute, "feedback": Feedback,
}  # fmt: skip


class CommandError(AuscultError):
    """A command that cannot be given."""


class Desk:
    """Gives commands, and writes down that it did. Safe for several threads.

    Args:
        broker: Where devices hear them.
        watch: Of it, how long a command is good for, and the token.
        database: Migrated.
    """

    def __init__(self, broker: BrokerConfig, watch: WatchConfig, database: Database) -> None:
        self._broker, self._watch, self._database = broker, watch, database

    @property
    def answers(self) -> bool:
        """Whether alarms can be answered: the devices' token is known."""
        return self._watch.token_file is not None

    def give(
        self, device: str, machine: str, command: str, fields: dict[str, Any], user: str
    ) -> str:
        """Send a command; the device's answer comes later, into the database.

        Args:
            device: Who is to carry it out.
            machine: Of which machine.
            command: `ack`, `shelve`, `mute` or `feedback`.
            fields: Its own, such as `alarm_id`, `seconds`, `comment`.
            user: Who asks.

        Returns:
            Its transaction.

        Raises:
            CommandError: It is not one that can be given so.
            DeliveryError: The broker is away, or refuses it.
        """
        model = MODELS.get(command)
        if model is None:
            raise CommandError(f"there is no command {command!r} here", where="command")
        transaction = f"plant-{secrets.token_hex(12)}"
        try:
            request = model.model_validate(
                {**fields, "transaction": transaction, "machine": machine, "operator": user}
            )
        except ValidationError as fault:
            raise CommandError(explain(fault, whole="the command")) from fault
        kept = request.model_dump(mode="json", exclude={"token", "transaction", "machine"})
        sent = request.model_dump(mode="json", exclude={"token"})
        if command == "feedback" and self._watch.token_file is not None:
            sent["token"] = read_secret(
                self._watch.token_file, "the devices' token file",
                remedy="Put `commands.token_file` of the devices there (chmod 600).",
            )  # fmt: skip
        with self._database.writing() as connection:
            connection.execute(
                sa.insert(COMMANDS).values(
                    transaction=transaction, device=device, machine=machine, command=command,
                    alarm_id=kept.get("alarm_id"), user=user, fields=json.dumps(kept),
                    asked=datetime.now(timezone.utc), status="sent",
                )
            )  # fmt: skip
        try:
            heard = self._publish(f"{self._broker.prefix}/{device}/request/{command}", sent)
        except AuscultError as fault:
            self._note(transaction, "error", str(fault))
            raise
        if not heard:
            self._note(
                transaction, "unheard",
                f"{device} does not listen to commands: it was never at this broker, or is away "
                "for longer than its session is kept",
            )  # fmt: skip
        log.info("%s: %s of %s by %s", device, command, machine, user)
        return transaction

    def _publish(self, topic: str, fields: dict[str, Any]) -> bool:
        link = Link(self._broker, f"auscult-plant-desk-{secrets.token_hex(6)}")
        link.open()
        try:
            return link.publish(
                topic, json.dumps(fields).encode(),
                expiry_seconds=round(self._watch.command_seconds), seconds=_TAKEN_SECONDS,
            )  # fmt: skip
        except OSError as fault:
            raise DeliveryError(f"the broker is away ({fault})", where=topic) from fault
        finally:
            link.close()

    def _note(self, transaction: str, status: str, error: str) -> None:
        with self._database.writing() as connection:
            connection.execute(
                sa.update(COMMANDS)
                .where(COMMANDS.c.transaction == transaction, COMMANDS.c.answered.is_(None))
                .values(status=status, error=error)
            )

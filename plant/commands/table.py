"""The subcommands of `auscult plant`: where each is, and what its help says in a line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """A subcommand, known without being loaded.

    Attributes:
        where: Its `click` command, as `module:name`.
        help: What it does, in a line; its own short help.
    """

    where: str
    help: str


#: In the order in which one comes to them.
COMMANDS: dict[str, Row] = {
    "build": Row("plant.commands.build:build", "Learn, judge and export every machine of a plant."),
    "offer": Row(
        "plant.commands.rollout:offer",
        "Plan a rollout of bundles to the devices that have their machines.",
    ),
    "rollout": Row(
        "plant.commands.rollout:rollout",
        "Serve bundles, offer them, watch how devices fare, put back.",
    ),
    "recall": Row(
        "plant.commands.rollout:recall",
        "Put the latest rollout back, whether it is under way or done.",
    ),
    "inventory": Row(
        "plant.commands.rollout:inventory",
        "List which device runs which bundle, and what became of offers.",
    ),
    "serve": Row(
        "plant.commands.serve:serve",
        "Keep what all devices tell in a database, and show it on one page.",
    ),
    "demo": Row(
        "plant.commands.demo:demo",
        "Show a plant of three machines: learnt, rolled out, put back.",
    ),
    "user": Row("plant.commands.user:user", "Add, list and remove users of the plant's page."),
    "simulate": Row(
        "plant.commands.simulate:simulate",
        "Let many simulated devices tell what one was recorded telling.",
    ),
}

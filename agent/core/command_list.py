"""What the commands are for: the list that `auscult --help` shows without loading any of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listed:
    """A command as the list of all shows it, so that none need be loaded for that.

    Attributes:
        help: What it does, in a line; its own short help.
        example: How it is used, as typed after `auscult`.
    """

    help: str
    example: str


# What one does, in the order one comes to it.
GROUPS: dict[str, dict[str, Listed]] = {
    "First machine": {
        "init": Listed("Write a first agent.yaml, by asking.", "init"),
        "devices": Listed("List microphones, with their levels.", "devices"),
        "record": Listed(
            "Record a machine, to train with.",
            "record --device USB --label healthy --seconds 1200 --out pump7",
        ),
        "inspect": Listed("Check recordings before training.", "inspect pump7"),
        "learn": Listed(
            "Make a bundle of healthy sound, on the device.", "learn pump7 --out pump7.bundle"
        ),
        "score": Listed("Score recordings with a bundle.", "score --bundle pump7.bundle today.wav"),
        "doctor": Listed(
            "Check microphone, bundle, broker, disk, clock and permissions.",
            "doctor --config agent.yaml",
        ),
        "run": Listed("Listen to machines and raise alarms.", "run --config agent.yaml"),
        "install-service": Listed(
            "Have systemd run the agent.", "install-service --config agent.yaml"
        ),
        "demo": Listed("Show the whole path: train, export, listen, raise the alarm.", "demo"),
    },
    "Day by day": {
        "why": Listed(
            "Say what was heard in a stretch, and why there was no alarm.", "why --machine pump7"
        ),
        "collect": Listed(
            "Record labelled sound on the device.",
            "collect --machine pump7 --label healthy --seconds 600",
        ),
        "bank": Listed("Extend a bundle's memory bank.", "bank list --machine pump7"),
        "commission": Listed(
            "Let a new bundle listen in shadow, and go live.", "commission --machine pump7"
        ),
        "notify": Listed("Send a test message to everybody who is notified.", "notify --help"),
        "tune": Listed(
            "Measure which inference settings suit this device, and set them.",
            "tune --config agent.yaml",
        ),
        "audit": Listed("List the commands that an agent was given.", "audit --last 20"),
        "backup": Listed(
            "Save a device's work (state, key, grown banks, answers) to a file.",
            "backup hall-2.auscult",
        ),
        "restore": Listed(
            "Put a backup in place, on this device or a new one.", "restore hall-2.auscult"
        ),
        "keygen": Listed("Make keys to sign bundles with.", "keygen site.key"),
    },
    "On a workstation": {
        "presets": Listed(
            "List the presets: encoder, length, checkpoint it needs, scorer, published figures.",
            "presets",
        ),
        "pretrained": Listed(
            "Pre-trained checkpoints: list them, check a file, fetch one.", "pretrained list"
        ),
        "train": Listed(
            "Learn a healthy machine's sound from the recordings in DATA.",
            "train pump7 --out runs/pump7",
        ),
        "export": Listed(
            "Write the bundle of a RUN that `auscult train` left.",
            "export runs/pump7 --out pump7.bundle",
        ),
        "shorten": Listed(
            "Measure shorter forms of a trained transformer, and choose one.",
            "shorten runs/pump7 --out pump7.forms",
        ),
        "evaluate": Listed(
            "Train, export and score presets on the machines in DATA, as DCASE Task 2 does.",
            "evaluate data --preset auscult_scratch --preset log_mel",
        ),
        "drift": Listed("Watch SEQUENCE for drift.", "drift pump7 --baseline 0.3"),
        "fuse": Listed(
            "Fuse the scores of several systems, and say what the fusion is worth.",
            "fuse scores/one scores/two",
        ),
        "metrics": Listed(
            "Score the challenge-format files in DIR as DCASE Task 2 does.", "metrics scores/one"
        ),
        "convert-tagger": Listed(
            "Make a published sound tagger ready for agents.", "convert-tagger --help"
        ),
        "benchmark": Listed(
            "Train, export and score presets on every machine of a DCASE download (2020 to 2026).",
            "benchmark --help",
        ),
        "cache": Listed("Show or clear what was computed and kept.", "cache --clear"),
        "reproduce": Listed(
            "Train, export and score every system of REPORT (000 to 004) on a DCASE 2025 download.",
            "reproduce 003 DATA",
        ),
    },
    "Many machines": {
        "plant": Listed(
            "Learn, roll out and watch the machines of a plant.", "plant build plant.yaml"
        ),
    },
}
# Whose examples the list shows, one a group.
SHOWN = frozenset({"record", "why", "train", "plant"})
LISTED = {name: one for group in GROUPS.values() for name, one in group.items()}

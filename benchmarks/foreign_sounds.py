"""Sounds from elsewhere over healthy and faulty machines: false alarms, and recall of faults.

    auscult convert-tagger yamnet_spectra_in.tflite --out tagger.onnx
    python benchmarks/foreign_sounds.py --shared ../shared --work FOLDER --tagger tagger.onnx

Trains and exports a machine of each family as a user would, lays nineteen kinds of sound (speech by
espeak-ng, ESC-10, made impulses, tools, vehicles, radio, rain) at -6 to 10 dB over its healthy and
its faulty sound, adds faults that resemble them, and lets the agent's own scorer and decider hear
all of it: by the defaults, as it was before (20 of 30 s), and with `ignore`. Scores and what an ear
says of them are kept in FOLDER, so that another rule is tried in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import foreign_scores as scores
import foreign_slots as elsewhere
import machines
from foreign_scores import Heard, Said
from foreign_slots import Slot
from rich.console import Console
from rich.table import Table

from agent.config.agent import MachineConfig
from agent.config.foreign import ForeignConfig
from agent.core.foreign import ForeignKind
from agent.core.records import Level
from agent.decide.alarm import AlarmDecider
from agent.deploy.load import Bundle, open_bundle
from agent.foreign.ear import ForeignEar
from agent.machine.settings import settings_of

# One of each family; the compressor's later days raise by themselves (docs/notes/choice.md).
CHOSEN = (
    "ToyCar-35a", "mimii_fan-10b", "motor0-30", "motor1-30", "drone0", "fan11", "fan12", "valve1",
    "gearbox1", "piston1", "slide1", "pump1",
)  # fmt: skip
# The bundle's own promise, asked for again: the threshold is then found for the rule's evidence.
_PROMISE = {"false_alarms": {"at_most": 1, "per_days": 30}}
_BEFORE = {
    "raise_seconds": 20, "of_seconds": 30, "pause_seconds": 0,
    "alert": {"escalate_seconds": 75},
}  # fmt: skip
_BY_SPECTRUM = ("speech", "impulses", "passing")


@dataclass(frozen=True)
class Rule:
    """How what is heard is decided on: `decide` and `ignore` of a machine, and whose ear."""

    name: str
    decide: Mapping[str, Any] = field(default_factory=dict)
    ignore: Sequence[str] = ()
    ear: str = "spectrum"


RULES = (
    Rule("default"),
    Rule("20 of 30 s", _BEFORE),
    Rule("20 of 30 s, ignore by the spectrum", _BEFORE, _BY_SPECTRUM),
    Rule("default, ignore by the spectrum", {}, _BY_SPECTRUM),
    Rule("default, ignore all by models", {}, tuple(k.value for k in ForeignKind), "models"),
)


def alarms(
    bundle: Bundle, hop: float, rule: Rule, heard: list[list[Heard]], said: list[list[Said]]
) -> list[float | None]:
    """When the alarm rises in each slot, seconds; None where it never does."""
    config = MachineConfig.model_validate(
        {"name": "bench", "hop_seconds": hop, "decide": {**_PROMISE, **rule.decide}}
    )
    terms = settings_of(config, bundle)
    found: list[float | None] = []
    for windows, told in zip(heard, said, strict=True):
        decider = AlarmDecider(
            config.decide, terms.thresholds.alarm, alert_threshold=terms.thresholds.alert,
            lasting=terms.thresholds.lasting, steady=terms.thresholds.steady,
            scale=terms.thresholds.scale, hop_seconds=hop,
            overlap_seconds=terms.overlap_seconds, ignore=[ForeignKind(k) for k in rule.ignore],
        )  # fmt: skip
        rose = None
        for one, (varies, foreign) in zip(windows, told, strict=True):
            score = replace(one.score, varies=varies, foreign=foreign)
            if decider.decide(score, one.state).level is Level.ALARM:
                rose = score.window.end_monotonic
                break
        found.append(rose)
    return found


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("AUSCULT_SHARED", "")))
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and slots")
    parser.add_argument("--tagger", type=Path, help="made by auscult convert-tagger")
    parser.add_argument("--train", default="", help="more words for auscult train")
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--only", nargs="*", default=list(CHOSEN))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    laid = options.work / "machines"
    if not laid.exists():
        for real in (machines.toycar, machines.mimii_fan, machines.motors, machines.drones):
            real(options.shared, laid)
        machines.synthetic(laid)
    ears = {"spectrum": ForeignConfig()}
    if options.tagger:
        speech = options.shared / "weights" / "silero_vad.onnx"
        ears["models"] = ForeignConfig(tagger=options.tagger, speech=speech)
    rules = [rule for rule in RULES if rule.ear in ears]
    found: list[dict[str, object]] = []
    for name in options.only:
        path, slots = scores.prepare(
            laid / name, options.work, options.shared, sum(map(ord, name)), options.train.split()
        )
        bundle = open_bundle(path, threads=1)
        kept = options.work / name / f"heard-{options.hop:g}.pickle"
        heard = scores.judged(bundle, options.hop, slots, kept)
        said = {
            ear: _said(bundle, options.hop, slots, heard, name, ear, config, kept)
            for ear, config in ears.items()
        }
        for rule in rules:
            rose = alarms(bundle, options.hop, rule, heard, said[rule.ear])
            found += [
                {"machine": name, "rule": rule.name, "background": slot.background,
                 "kind": slot.kind, "snr_db": slot.snr_db, "alarm": at}
                for slot, at in zip(slots, rose, strict=True)
            ]  # fmt: skip
        bundle.close()
        print(name, flush=True)
    show(found, rules)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


def _said(
    bundle: Bundle, hop: float, slots: list[Slot], heard: list[list[Heard]], name: str, ear: str,
    config: ForeignConfig, beside: Path,
) -> list[list[Said]]:  # fmt: skip
    kept = beside.with_name(f"said-{ear}-{hop:g}.pickle")
    if kept.exists():
        return list(pickle.loads(kept.read_bytes()))
    listener = ForeignEar(name, config)
    listener.start()
    found = scores.told(bundle, hop, slots, heard, listener)
    kept.write_bytes(pickle.dumps(found))
    return found


def _cell(hits: list[bool]) -> str:
    return f"{sum(hits)}/{len(hits)}" if hits else "-"


def show(found: list[dict[str, object]], rules: Sequence[Rule]) -> None:
    """Print the tables."""
    console = Console(width=130)
    kinds = (
        ("healthy", False), ("healthy", True), ("faulty", False), ("faulty", True), ("alike", True),
    )  # fmt: skip
    for rule in rules:
        rows = [row for row in found if row["rule"] == rule.name]
        table = Table(title=f"alarms, {rule.name}")
        for name in ("machine", "healthy", "with sounds", "faulty", "with sounds", "alike"):
            table.add_column(name)
        names = list(dict.fromkeys(str(row["machine"]) for row in rows))
        for machine in [*names, "all"]:
            cells = [
                _cell([
                    row["alarm"] is not None
                    for row in rows
                    if machine in {row["machine"], "all"}
                    and row["background"] == background
                    and bool(row["kind"]) == mixed
                ])
                for background, mixed in kinds
            ]  # fmt: skip
            table.add_row(machine, *cells)
        console.print(table)
    hits: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for row in found:
        key = (str(row["rule"]), str(row["kind"]), str(row["background"]))
        hits[key].append(row["alarm"] is not None)
    for title, names, sides in (
        ("by sound, over healthy / over faulty", [kind.name for kind in elsewhere.KINDS],
         ("healthy", "faulty")),
        ("faults that resemble them", list(elsewhere.FAULTS), ("alike",)),
    ):  # fmt: skip
        table = Table(title=f"alarms, {title}")
        table.add_column("sound")
        for rule in rules:
            table.add_column(rule.name)
        for name in names:
            table.add_row(
                name,
                *(
                    " / ".join(_cell(hits[rule.name, name, side]) for side in sides)
                    for rule in rules
                ),
            )
        console.print(table)


if __name__ == "__main__":
    main()

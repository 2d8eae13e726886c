"""The figures of one machine's bundle that a plant's summary compares, from the commands' JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Verdicts, worst first, as `auscult` gives them; what failed and what is ruined is worse than any.
LEVELS = ("failed", "ruined", "do not deploy", "cannot tell", "usable", "good")


def figures_of(told: Mapping[str, Any], bundle: Path) -> dict[str, Any]:
    """What is compared of a machine.

    Args:
        told: What `auscult export --json` or `auscult learn --json` wrote.
        bundle: The bundle.

    Returns:
        Its verdict and on what it rests, what the threshold did there, the rank of faulty clips,
        and what people should know; JSON values.
    """
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    judged = told.get("test") or told.get("healthy")
    whole = {} if judged is None else judged["at_threshold"]["all"]
    verdict = {} if judged is None else judged["verdict"]
    agreement = manifest.get("agreement") or {}
    comparison = (told.get("comparison") or {}).get("test") or {}
    ruined = agreement.get("ruined", "")
    return {
        "level": "ruined" if ruined else verdict.get("level", "cannot tell"),
        "verdict": ruined or verdict.get("text", "nothing was judged"),
        "judged_on": "test recordings"
        if told.get("test")
        else "its healthy recordings, each left out"
        if judged
        else "nothing",
        "faults": whole.get("faults"),
        "found": whole.get("found"),
        "healthy": whole.get("healthy"),
        "false_alarms": whole.get("false_alarms"),
        "false_alarm_share": whole.get("false_alarm_share"),
        "hmean": comparison.get("hmean"),
        "threshold": manifest["threshold"]["value"],
        "caveat": manifest["threshold"].get("caveat", ""),
        "recordings": manifest["trained_on"]["recordings"],
        "hours": round(manifest["trained_on"]["seconds"] / 3600, 3),
        "preset": manifest["trained_on"]["preset"],
        "precision": manifest["encoder"]["precision"],
        "bytes": sum(one["size"] for one in manifest["files"].values()),
        "encoder_sha256": manifest["files"]["encoder.onnx"]["sha256"],
        "signed": (bundle / "manifest.sig").is_file(),
        "notes": list(told.get("notes") or manifest.get("notes", ())),
        "record": list(verdict.get("record", ())),
    }

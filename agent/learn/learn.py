"""Learns a machine's healthy sound with an encoder that is ready: recordings to a sealed bundle."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.progress import Progress

from agent.bundle.manifest import ENCODER, Manifest
from agent.bundle.seal import new_bundle
from agent.bundle.sign import CONTEXT, sign_folder
from agent.capture.files import audio_info
from agent.core.errors import AudioError, LearnError
from agent.core.text import plural
from agent.deploy.load import open_bundle
from agent.encode.embedding_cache import EmbeddingCache
from agent.hygiene.measure import Measured
from agent.hygiene.record import Untypical
from agent.hygiene.stage import Inspection, inspect_machine, refuse_untypical
from agent.learn.assemble import Material, assemble
from agent.learn.detector import Detector, make_detector
from agent.learn.draft import Origin
from agent.learn.embed import embed
from agent.learn.encoders import ReadyEncoder
from agent.learn.planted import faulty_windows
from agent.learn.promise import heard_hours
from agent.learn.rehearsal import Rehearsal
from agent.learn.untypical import refuse_apart
from agent.recordings.held import holding_place
from agent.recordings.model import HEALTHY, Machine
from agent.recordings.windows import Cutting, source_name

# Of the free room of the disk, windows that are held meanwhile take no more than this.
_ROOM_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Signing:
    """What a bundle is signed with.

    Attributes:
        key: Private key, from `load_private`.
        context: What it is signed as.
    """

    key: Any
    context: bytes = CONTEXT


@dataclass(frozen=True, slots=True)
class Learnt:
    """A bundle that was learnt.

    Attributes:
        manifest: Its manifest.
        rehearsal: What its threshold would have done with its own healthy recordings.
        inspection: What was found of the recordings.
        detector: What it judges with.
        healthy_hours: Of sound that it was learnt from.
    """

    manifest: Manifest
    rehearsal: Rehearsal
    inspection: Inspection
    detector: Detector
    healthy_hours: float


def learn(
    machine: Machine,
    encoder: ReadyEncoder,
    out: Path,
    progress: Progress,
    *,
    channel: int | None = None,
    untypical: Untypical = "refuse",
    signing: Signing | None = None,
    machine_name: str | None = None,
    counter: int | None = None,
    sound: bool = True,
    cache: EmbeddingCache | None = None,
    known: Mapping[Path, Measured] | None = None,
) -> Learnt:
    """Make a bundle of a machine's recordings; nothing is trained, and torch is not needed.

    Windows are held in a file beyond 64 MB; what is touched of it is let go after each step.

    Args:
        machine: Its recordings, opened and judged.
        encoder: What embeds them, with the recipe.
        out: The bundle's folder; an earlier bundle there is replaced, in one step.
        progress: Where to show progress.
        channel: Channel of multi-channel recordings; None averages.
        untypical: What becomes of healthy recordings unlike all others.
        signing: What to sign the bundle with; None leaves it unsigned.
        machine_name: The machine that it is for; the recordings' when None.
        counter: What a device orders a machine's bundles by; seconds since 1970 when None.
        sound: Carry a few healthy windows as sound.
        cache: Where embeddings are kept; None for nowhere.
        known: What was measured of the recordings already, with the same channel.

    Raises:
        AudioError: No healthy recording can be used, or one is unlike all others.
        LearnError: So says the detector; or there is too little room for the windows.
        AuscultError: Too few healthy recordings, or the bundle cannot be written.
    """
    inspection = inspect_machine(
        machine, channel=channel, untypical=untypical, progress=progress, known=known
    )
    refuse_untypical(inspection)
    machine, recipe, info = inspection.machine, encoder.recipe, encoder.info
    cutting = Cutting(
        info.sample_rate,
        info.window_samples,
        round(recipe.window.train_hop_seconds * info.sample_rate),
        recipe.window.clip_seconds,
        channel,
    )
    _refuse_room(machine, cutting)
    origin = Origin(
        machine=machine.name,
        recipe=recipe,
        channel=channel,
        hygiene=inspection.record,
        used=frozenset(source_name(machine.root, one) for one in machine.recordings),
    )
    embedder = partial(embed, cache=cache)
    with new_bundle(out) as folder:
        encoder.copy(folder)
        material = Material.gather(machine, cutting, progress)
        detector = make_detector(
            folder / ENCODER, info, material.windows, material.still, recipe, progress,
            untypical=origin.untypical, embedder=embedder,
        )  # fmt: skip
        refuse_apart(detector.apart, inspection.record, machine.name)
        plain = detector
        if encoder.plain is not None:
            at = info.model_copy(update={"precision": "float32"})
            plain = replace(detector, graph=encoder.plain, info=at)
        done = assemble(
            folder, material, origin, encoder.graph, detector, plain,
            faulty=faulty_windows(machine, cutting, progress), sound=sound,
            machine_name=machine_name, counter=counter, progress=progress, embedder=embedder,
        )  # fmt: skip
        if signing is not None:
            sign_folder(folder, signing.key, signing.context)
        # What an agent does first: nothing takes the bundle's name that it would refuse.
        open_bundle(folder).close()
    hours = heard_hours(material.windows, recipe.window.seconds)
    return Learnt(done.manifest, done.rehearsal, inspection, done.detector, hours)


def _refuse_room(machine: Machine, cutting: Cutting) -> None:
    """Refuse recordings whose windows would fill the disk that the agent itself needs.

    Raises:
        LearnError: They would.
    """
    seconds = sum(_seconds(one.path) for one in machine.of(*HEALTHY, "idle", "noise"))
    overlap = cutting.window_samples / cutting.hop_samples
    wanted = 4 * cutting.rate * seconds * max(1.0, overlap)
    place = holding_place()
    free = shutil.disk_usage(place).free
    if wanted > _ROOM_SHARE * free:
        count = plural(len(machine.of(*HEALTHY)), "healthy recording")
        raise LearnError(
            f"the windows of {count} take {wanted / 1e9:.1f} GB for a while, and "
            f"{free / 1e9:.1f} GB are free there",
            where=place,
            remedy="Name a folder with more room in the environment's TMPDIR, or learn from fewer "
            "recordings.",
        )


def _seconds(path: Path) -> float:
    try:
        return audio_info(path).seconds
    except AudioError:
        return 0.0

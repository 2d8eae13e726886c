"""What a classification is learnt from: windows, and where each comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from rich.progress import Progress
from torch import Tensor

from agent.bundle.manifest import Row
from agent.core.errors import AudioError, ConfigError
from agent.recordings.held import HeldWindows, forget_mapped
from agent.recordings.model import HEALTHY, Machine
from agent.recordings.windows import WindowSet, healthy_windows, source_name
from trainer.encoders.base import Encoder
from trainer.fit.config import TrainingConfig

NOISE = "noise"
_AT_ONCE = 64  # windows


@dataclass(frozen=True, slots=True)
class Material:
    """Training windows.

    Attributes:
        waveforms: float32 `(n, window_samples)`.
        rows: Origin of each.
        machines: Machine of each.
        roles: Role of each one's recording.
        noise: Noise-only windows to mix in, float32 `(m, window_samples)`; m may be 0.
    """

    waveforms: Tensor
    rows: tuple[Row, ...]
    machines: tuple[str, ...]
    roles: tuple[str, ...]
    noise: Tensor

    @property
    def recordings(self) -> list[str]:
        """Name of each window's recording; those of other machines differ."""
        return [f"{m}/{row.source}" for m, row in zip(self.machines, self.rows, strict=True)]


def own_material(waveforms: Tensor, rows: Sequence[Row], machine: str) -> Material:
    """Healthy windows of one machine, nothing else."""
    count = len(rows)
    return Material(
        waveforms,
        tuple(rows),
        (machine,) * count,
        ("normal",) * count,
        waveforms.new_zeros(0, waveforms.shape[1]),
    )


def gather_material(
    machine: Machine,
    others: Sequence[Machine],
    encoder: Encoder,
    config: TrainingConfig,
    *,
    hop_samples: int,
    clip_seconds: float | None = None,
    channel: int | None = None,
    progress: Progress | None = None,
) -> Material:
    """Read what a training needs: the machine's healthy sound, and what the classes ask for.

    Args:
        machine: The machine.
        others: The data set's other machines; read only with `classes.machines: all`.
        encoder: Says rate and length of a window.
        config: The preset's `training` section.
        hop_samples: Step between windows, samples.
        clip_seconds: Only so much of each recording; None for all of it.
        channel: Channel of multi-channel recordings; None averages.
        progress: Where to show progress.

    Raises:
        AudioError: No healthy window can be judged.
    """
    wanted = config.classes
    sources = [machine, *(others if wanted.machines == "all" else ())]
    # The same order for each of the machines: their trainings are one and the same.
    sources.sort(key=lambda source: source.name)

    def read(source: Machine, *roles: str) -> WindowSet:
        return healthy_windows(
            source,
            rate=encoder.sample_rate,
            window_samples=encoder.window_samples,
            hop_samples=hop_samples,
            roles=roles,
            clip_seconds=clip_seconds,
            channel=channel,
            progress=progress,
        )

    waveforms: list[Tensor] = []
    rows: list[Row] = []
    machines: list[str] = []
    roles: list[str] = []
    noise: list[Tensor] = []
    for source in sources:
        role_of = {source_name(source.root, r): r.role for r in source.recordings}
        if source is machine or source.of(*HEALTHY):
            _take(read(source, *HEALTHY), source, role_of, waveforms, rows, machines, roles)
        if not source.of(NOISE) or not (wanted.noise or config.augment.noise):
            continue
        try:
            heard = read(source, NOISE)
        except AudioError:
            continue  # silence, most likely: no noise to learn from or to add
        noise.append(torch.from_numpy(heard.waveforms))
        if wanted.noise:
            _take(heard, source, role_of, waveforms, rows, machines, roles)
    return Material(
        _joined(waveforms, encoder.window_samples),
        tuple(rows),
        tuple(machines),
        tuple(roles),
        _joined(noise, encoder.window_samples),
    )


def all_finite(waveforms: Tensor) -> bool:
    """Whether all windows, float32 `(n, window_samples)`, hold numbers alone."""
    for chunk in torch.split(waveforms, _AT_ONCE) if len(waveforms) else ():
        if not bool(torch.isfinite(chunk).all()):
            return False
        forget_mapped()
    return True


def _joined(parts: Sequence[Tensor], window_samples: int) -> Tensor:
    """Windows of several machines as one tensor; those of one as they are."""
    if len(parts) == 1:
        return parts[0]
    held = HeldWindows(window_samples)
    for part in parts:
        for window in part:
            held.add(window.numpy())
        forget_mapped()
    return torch.from_numpy(held.matrix())


def _take(
    found: WindowSet,
    source: Machine,
    role_of: dict[str, str],
    waveforms: list[Tensor],
    rows: list[Row],
    machines: list[str],
    roles: list[str],
) -> None:
    waveforms.append(torch.from_numpy(found.waveforms))
    rows.extend(found.rows)
    machines.extend([source.name] * len(found.rows))
    roles.extend(role_of.get(row.source, "normal") for row in found.rows)


def hold_out(
    recordings: Sequence[str], labels: Sequence[int], share: float, seed: int
) -> tuple[list[int], list[int]]:
    """Split windows into those learnt from and those watched, whole recordings at a time.

    Every class keeps a recording to be learnt from. Only training recordings come here, so no test
    recording ever says when to stop.

    Args:
        recordings: Recording of each window.
        labels: Class of each window.
        share: Share of the recordings to hold out.
        seed: Chooses them.

    Returns:
        Numbers of the windows learnt from, and of those held out (empty for a share of 0).

    Raises:
        ConfigError: There is no recording to spare.
    """
    if not share:
        return list(range(len(recordings))), []
    classes: dict[str, set[int]] = {}
    for recording, label in zip(recordings, labels, strict=True):
        classes.setdefault(recording, set()).add(int(label))
    left: dict[int, int] = {}
    for found in classes.values():
        for label in found:
            left[label] = left.get(label, 0) + 1
    names = sorted(classes)
    held: set[str] = set()
    for place in np.random.default_rng(seed).permutation(len(names)):
        name = names[int(place)]
        if len(held) >= max(1, round(share * len(names))):
            break
        if all(left[label] > 1 for label in classes[name]):
            held.add(name)
            for label in classes[name]:
                left[label] -= 1
    if not held:
        raise ConfigError(
            "every class has a single recording, so none can be held out",
            where="training.held_out",
            remedy="Set it to 0, or record more.",
        )
    learnt = [i for i, name in enumerate(recordings) if name not in held]
    return learnt, [i for i, name in enumerate(recordings) if name in held]

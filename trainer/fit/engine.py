"""Where a training runs: one process or several, on which devices, through Lightning Fabric."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from agent.core.errors import ConfigError
from trainer.fit.config import TrainingConfig

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}


@dataclass(frozen=True, slots=True)
class Placement:
    """Devices of a training.

    Attributes:
        accelerator: `auto` takes CUDA where there is some.
        devices: Processes on this computer, each with a device (or a share of the processor).
        nodes: Computers. With more than one, start it on each through torchrun.
    """

    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = 1
    nodes: int = 1


def under_torchrun() -> bool:
    """Whether torchrun started this process, which then says how many there are."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def make_engine(config: TrainingConfig, placement: Placement | None = None) -> Fabric:
    """The engine; with several devices, `launch` it before anything else is done.

    Args:
        config: The preset's `training` section.
        placement: Devices; None for one. torchrun's own numbers go before it.

    Raises:
        ConfigError: The device or its arithmetic is not to be had here.
    """
    placement = placement or Placement()
    devices, nodes = placement.devices, placement.nodes
    if under_torchrun():
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        nodes = max(1, int(os.environ.get("WORLD_SIZE", "1")) // devices)
    elif nodes > 1:
        raise ConfigError(
            f"{nodes} computers need someone who starts them",
            where="--nodes",
            remedy="On each: torchrun --nnodes N --nproc_per_node D --rdzv-endpoint HOST:PORT "
            "-m agent.cli train ...",
        )
    cuda = torch.cuda.is_available()
    if placement.accelerator == "cuda" and not cuda:
        raise ConfigError(
            "PyTorch finds no CUDA device",
            where="--accelerator",
            remedy="Set it to cpu, or install the driver and a CUDA build of PyTorch.",
        )
    on_cuda = cuda and placement.accelerator != "cpu"
    if on_cuda and devices > torch.cuda.device_count():
        raise ConfigError(
            f"there are {torch.cuda.device_count()} CUDA devices, not {devices}",
            where="--devices",
        )
    if config.precision == "16" and not on_cuda:
        raise ConfigError(
            "float16 is for CUDA devices, and this training runs on the processor",
            where="training.precision",
            remedy="Set it to bf16 or 32.",
        )
    if devices * nodes > 1 and config.kind != "classify":
        raise ConfigError(
            f"training.kind: {config.kind} has nothing to share out among processes",
            where="--devices",
            remedy="Leave it out.",
        )
    # It brings the compiler of torch: seconds that only trainings should take.
    from lightning_fabric import Fabric  # noqa: PLC0415

    return Fabric(
        accelerator="cuda" if on_cuda else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        precision=_PRECISIONS[config.precision],
    )

"""Which of an encoder's weights learn: all, low-rank adapters beside them, or only new parts.

Adapters are peft's. They sit beside the projections of attention, and are merged into them when
the training ends, so that nothing of them remains in a run or in an exported graph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.encoders.base import Encoder
from trainer.encoders.mn04 import Mn04
from trainer.fit.config import LoraSettings, TrainingConfig
from trainer.zoo.backbone import Backbone
from trainer.zoo.pooling import AttentiveStatistics
from trainer.zoo.vit import Attention

if TYPE_CHECKING:
    from peft.tuners.lora import LoraModel

# What attention calls its projections: BEATs, MuQ, and the plain transformer blocks.
_PROJECTIONS = {
    "q": ("q_proj", "linear_q", "qkv.q"),
    "k": ("k_proj", "linear_k", "qkv.k"),
    "v": ("v_proj", "linear_v", "qkv.v"),
    "out": ("out_proj", "linear_out", "proj"),
}
_BLOCK = re.compile(r"(?:^|\.)(?:layers|blocks|features)\.(\d+)\.")
_NAME = "default"


class SplitQkv(nn.Module):
    """A fused projection taken apart, so that queries, keys and values can have adapters each.

    An adapter of the fused matrix would be another thing: its one input factor would be shared by
    the three, and keys would change even where only queries and values are to.

    Args:
        fused: Projection of `width` to `3 width`: queries, keys, values.
    """

    def __init__(self, fused: nn.Linear) -> None:
        super().__init__()
        for name, weight, bias in zip(
            "qkv", fused.weight.chunk(3), fused.bias.chunk(3), strict=True
        ):
            part = nn.Linear(fused.in_features, fused.out_features // 3, device="meta")
            part.weight = nn.Parameter(weight.detach())
            part.bias = nn.Parameter(bias.detach())
            self.add_module(name, part)

    def forward(self, tokens: Tensor) -> Tensor:
        """Query, key and value of tokens in one: `(..., width)` to `(..., 3 width)`."""
        return torch.cat([part(tokens) for part in self.children()], dim=-1)

    def join(self) -> nn.Linear:
        """The fused projection again."""
        parts = [part for part in self.children() if isinstance(part, nn.Linear)]
        fused = nn.Linear(parts[0].in_features, 3 * parts[0].out_features, device="meta")
        fused.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
        fused.bias = nn.Parameter(torch.cat([part.bias.detach() for part in parts]))
        return fused


class Tuning:
    """An encoder made ready for training, and put together again after it.

    Between `start` and `finish` the encoder's parameters that learn have `requires_grad`, and with
    `lora` its state has the adapters' tensors as well.

    Args:
        encoder: The encoder; changed in place.
        config: The preset's `training` section.
    """

    def __init__(self, encoder: Encoder, config: TrainingConfig) -> None:
        self.encoder, self.config = encoder, config
        self._adapters: LoraModel | None = None
        self._required = {name: p.requires_grad for name, p in encoder.named_parameters()}

    def start(self) -> None:
        """Choose what learns.

        Raises:
            ConfigError: There is nothing to train, or nothing that an adapter fits.
        """
        tune = self.config.tune
        self.encoder.requires_grad_(tune == "full")
        if tune == "lora":
            self._adapters = _add_adapters(self.encoder, self.config.lora)
        for part in new_parts(self.encoder):
            part.requires_grad_(requires_grad=True)
        for name, module in self.encoder.named_modules():
            if name.rpartition(".")[2] == "front_end":
                module.requires_grad_(requires_grad=False)
        if any(p.requires_grad for p in self.encoder.parameters()):
            return
        if tune == "head":
            raise ConfigError(
                f"the encoder {self.encoder.kind} has no part of its own to train, so training "
                "the loss's centres alone would leave its embedding as it is",
                where="training.tune",
                remedy="Give it encoder.pooling: attentive, or tune: lora or full.",
            )
        raise ConfigError(
            f"the encoder {self.encoder.kind} has nothing to train",
            where="training.kind",
            remedy="Set it to frozen.",
        )

    def finish(self) -> None:
        """Merge the adapters into the weights they sit beside; the state is as before `start`.

        Raises:
            ConfigError: A merged or trained weight isn't finite.
        """
        if self._adapters is not None:
            try:
                self._adapters.merge_and_unload(safe_merge=True)
            except ValueError as fault:
                raise ConfigError(
                    f"an adapter cannot be merged: {fault}",
                    where="training.learning_rate",
                    remedy="Lower it: the training ran away.",
                ) from fault
            self._adapters = None
        for parent, name, part in _children(self.encoder):
            if isinstance(part, SplitQkv):
                setattr(parent, name, part.join())
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_(self._required[name])
        # The loss told of every step but the last.
        for name, value in self.encoder.state_dict().items():
            if not bool(torch.isfinite(value).all()):
                raise ConfigError(
                    f"the training ended with values in {name} that aren't finite",
                    where="training.learning_rate",
                    remedy=f"Lower it (it is {self.config.learning_rate:g}).",
                )


def new_parts(encoder: nn.Module) -> Iterator[nn.Module]:
    """Trainable parts that come without published weights: attentive poolings."""
    return (module for module in encoder.modules() if isinstance(module, AttentiveStatistics))


def train_mode(encoder: Encoder) -> None:
    """Training mode, but for what was pre-trained: its batch norms keep their statistics.

    A batch of one machine's windows would move them from what the published weights expect.
    """
    encoder.train()
    for module in encoder.modules():
        if isinstance(module, Backbone):
            for norm in module.modules():
                if isinstance(norm, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001
                    norm.eval()


def leave_unused(encoder: Encoder) -> None:
    """Take from training what the embedding does not depend on.

    Processes that share a batch would wait for its gradient for ever.
    """
    encoder.eval()
    trained = [p for p in encoder.parameters() if p.requires_grad]
    silence = torch.zeros(2, encoder.window_samples)
    with torch.random.fork_rng(devices=[]):
        parts = encoder.branches(silence)
    found = torch.autograd.grad(
        torch.stack([part.sum() for part in parts]).sum(), trained, allow_unused=True
    )
    for parameter, gradient in zip(trained, found, strict=True):
        if gradient is None:
            parameter.requires_grad_(requires_grad=False)


def _add_adapters(encoder: Encoder, settings: LoraSettings) -> LoraModel:
    # peft brings all of transformers: seconds that only trainings with adapters should take.
    from peft import LoraConfig  # noqa: PLC0415
    from peft.tuners.lora import LoraModel  # noqa: PLC0415

    for module in list(encoder.modules()):
        if isinstance(module, Attention):
            module.qkv = SplitQkv(module.qkv)  # type: ignore[assignment]
    sides = dict(_adapted(encoder, settings))
    if not sides:
        raise ConfigError(
            f"the encoder {encoder.kind} has no layer that an adapter fits",
            where="training.tune",
            remedy="Set it to full.",
        )
    # More rank than a layer has is only more to compute; the update's share stays as asked for.
    share = 1.0 if settings.alpha is None else settings.alpha / settings.rank
    ranks = {name: min(settings.rank, side) for name, side in sides.items()}
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=share * settings.rank,  # type: ignore[arg-type]
        lora_dropout=settings.dropout,
        target_modules=list(sides),
        rank_pattern={f"^{re.escape(name)}$": rank for name, rank in ranks.items()},
        alpha_pattern={f"^{re.escape(name)}$": share * rank for name, rank in ranks.items()},
    )
    return LoraModel(encoder, config, _NAME)


def _adapted(encoder: Encoder, settings: LoraSettings) -> Iterator[tuple[str, int]]:
    """Names of the layers that get an adapter, with the smaller of their two sides."""
    wanted = tuple(f".{name}" for target in settings.targets for name in _PROJECTIONS[target])
    small = [name for name, module in encoder.named_modules() if isinstance(module, Mn04)]
    for name, module in encoder.named_modules():
        in_mn04 = any(name.startswith(f"{prefix}." if prefix else "") for prefix in small)
        found = _BLOCK.search(name)
        if found is None:
            continue
        # mn04's layer 0 is its stem, so that its first block has number 1.
        block = int(found[1]) + (0 if in_mn04 else 1)
        if settings.first_blocks is not None and block > settings.first_blocks:
            continue
        if in_mn04 and isinstance(module, nn.Conv2d):
            if module.kernel_size == (1, 1) and module.groups == 1:
                yield name, min(module.in_channels, module.out_channels)
        elif isinstance(module, nn.Linear) and name.endswith(wanted):
            yield name, min(module.in_features, module.out_features)


def _children(module: nn.Module) -> list[tuple[nn.Module, str, nn.Module]]:
    """Every module with its parent and the name it has there."""
    return [
        (parent, name, child)
        for parent in module.modules()
        for name, child in parent.named_children()
    ]

"""Takes attention heads from a transformer: those that change least with what is heard.

A head adds to each token a vector, of which the part that is the same for all healthy sound can be
kept without the head: it goes into the bias of the layer that joins the heads. What is lost is how
the vector varies, so the heads are dropped whose vectors vary least (the trace of the covariance).
Michel et al. 2019 ("Are sixteen heads really better than one?") drop heads by a loss's gradient;
here nothing is labelled.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.zoo.backbone import Backbone, Prunable

_BATCH = 4


class _Heard:
    """First and second moments of each head's result, as its layer's last projection takes them."""

    def __init__(self, attention: Prunable) -> None:
        self.heads, self.size = attention.heads, attention.size
        self.count = 0
        self.total = torch.zeros(self.heads, self.size, dtype=torch.float64)
        self.squares = torch.zeros(self.heads, self.size, self.size, dtype=torch.float64)

    def hear(self, _module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        each = inputs[0].detach().reshape(-1, self.heads, self.size).double()
        self.count += len(each)
        self.total += each.sum(dim=0)
        self.squares += torch.einsum("nhi,nhj->hij", each, each)

    def mean(self) -> Tensor:
        return self.total / self.count

    def variation(self, weight: Tensor) -> Tensor:
        """How much each head's vector varies, by the projection's weight, `(heads,)`."""
        mean = self.mean()
        covariance = self.squares / self.count - torch.einsum("hi,hj->hij", mean, mean)
        per_head = weight.detach().double().reshape(-1, self.heads, self.size)
        return torch.einsum("ohi,hij,ohj->h", per_head, covariance, per_head)


def prune_heads(backbone: Backbone, waveforms: Tensor, heads: int) -> tuple[tuple[int, ...], ...]:
    """Leave so many heads in each layer, and what the others always added.

    Args:
        backbone: The encoder; changed in place, and left in evaluation mode.
        waveforms: Healthy windows, float32 `(n, samples)`, at its rate.
        heads: Heads left in each layer.

    Returns:
        Those that are left, of each layer, ascending.

    Raises:
        ConfigError: It has no such heads, or no more than that.
    """
    attentions = backbone.attentions()
    most = min((one.heads for one in attentions), default=0)
    if not 1 <= heads < most or any(type(one.output) is not nn.Linear for one in attentions):
        raise ConfigError(
            f"of the attention heads of {backbone.family} ({most} in a layer that can be told "
            f"apart) {heads} cannot be left"
        )
    heard = [_Heard(one) for one in attentions]
    hooks = [
        one.output.register_forward_pre_hook(ear.hear)
        for one, ear in zip(attentions, heard, strict=True)
    ]
    try:
        backbone.eval()
        with torch.inference_mode():
            for part in torch.split(waveforms, _BATCH):
                backbone.hidden(backbone.features(part))
    finally:
        for hook in hooks:
            hook.remove()
    return tuple(_prune(one, ear, heads) for one, ear in zip(attentions, heard, strict=True))


def _prune(attention: Prunable, heard: _Heard, heads: int) -> tuple[int, ...]:
    output = cast("nn.Linear", attention.output)
    variation = heard.variation(output.weight)
    kept = sorted(variation.topk(heads).indices.tolist())
    gone = [head for head in range(attention.heads) if head not in kept]
    per_head = output.weight.detach().double().reshape(-1, attention.heads, attention.size)
    added = torch.einsum("ohi,hi->o", per_head[:, gone], heard.mean()[gone])
    attention.keep(kept)
    with torch.no_grad():
        cast("nn.Linear", attention.output).bias.add_(added.float())
    return tuple(kept)

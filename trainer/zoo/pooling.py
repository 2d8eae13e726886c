"""Hidden states to one vector: the poolings of the literature, each a small module.

All take a token grid `(batch, time, bands, width)`. Those that weigh or average treat every token
of the grid alike; `bands` keeps the frequency rows apart.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainer.zoo.backbone import Backbone, Hidden

_TINY = 1e-6


class Mean(nn.Module):
    """Average over all tokens."""

    def forward(self, grid: Tensor) -> Tensor:
        """`(batch, time, bands, width)` to `(batch, width)`."""
        return grid.flatten(1, 2).mean(dim=1)


class Max(nn.Module):
    """Maximum over all tokens: keeps what is brief (impacts), which a mean drowns."""

    def forward(self, grid: Tensor) -> Tensor:
        """`(batch, time, bands, width)` to `(batch, width)`."""
        return grid.flatten(1, 2).amax(dim=1)


class MeanMax(nn.Module):
    """Average and maximum, one after the other."""

    def forward(self, grid: Tensor) -> Tensor:
        """`(batch, time, bands, width)` to `(batch, 2 width)`."""
        tokens = grid.flatten(1, 2)
        return torch.cat([tokens.mean(dim=1), tokens.amax(dim=1)], dim=1)


class Bands(nn.Module):
    """Average over time alone; the bands' vectors are joined, lowest frequency first."""

    def forward(self, grid: Tensor) -> Tensor:
        """`(batch, time, bands, width)` to `(batch, bands * width)`."""
        return grid.mean(dim=1).flatten(1)


class GeneralizedMean(nn.Module):
    """Generalised mean: the p-th root of the mean p-th power, between mean and maximum.

    Args:
        power: p; negative values count as (nearly) zero, since their power need not be real.
    """

    def __init__(self, power: float = 3.0) -> None:
        super().__init__()
        self.power = power

    def forward(self, grid: Tensor) -> Tensor:
        """`(batch, time, bands, width)` to `(batch, width)`."""
        powered = grid.flatten(1, 2).clamp(min=_TINY).pow(self.power)
        return powered.mean(dim=1).pow(1.0 / self.power)


class RelativeDeviation(nn.Module):
    """Relative deviation pooling: tokens far from the clip's mean weigh more (arXiv 2603.04605).

    With d the distance of a token to the clip's mean token, over the largest such distance, its
    weight is (1 + d)^gamma, normalised to sum one.

    Args:
        gamma: Exponent; 0 gives the mean.
        power: None for a weighted mean; p for a weighted generalised mean (the hybrid).
    """

    def __init__(self, gamma: float, power: float | None = None) -> None:
        super().__init__()
        self.gamma, self.power = gamma, power

    def forward(self, grid: Tensor) -> Tensor:
        """`(batch, time, bands, width)` to `(batch, width)`."""
        tokens = grid.flatten(1, 2)
        offset = tokens - tokens.mean(dim=1, keepdim=True)
        distance = (offset * offset).sum(dim=2, keepdim=True).sqrt()
        relative = distance / distance.amax(dim=1, keepdim=True).clamp(min=_TINY)
        weight = (1.0 + relative).pow(self.gamma)
        weight = weight / weight.sum(dim=1, keepdim=True)
        if self.power is None:
            return (weight * tokens).sum(dim=1)
        powered = tokens.clamp(min=_TINY).pow(self.power)
        return (weight * powered).sum(dim=1).pow(1.0 / self.power)


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation with learned weights (Okabe et al. 2018, as in ECAPA-TDNN).

    Each token is seen beside the clip's mean and deviation. It has weights of its own and means
    nothing before it has been trained.

    Args:
        width: Length of a token.
        dim: Length of the vector it gives.
    """

    def __init__(self, width: int, dim: int) -> None:
        super().__init__()
        squeezed = max(1, width // 16)
        self.attention = nn.Sequential(
            nn.Conv1d(3 * width, squeezed, 1),
            nn.ReLU(),
            nn.BatchNorm1d(squeezed),
            nn.Tanh(),
            nn.Conv1d(squeezed, width, 1),
        )
        self.norm = nn.BatchNorm1d(2 * width)
        self.project = nn.Linear(2 * width, dim)
        self.out_norm = nn.BatchNorm1d(dim)

    def forward(self, grid: Tensor) -> Tensor:
        """`(batch, time, bands, width)` to `(batch, dim)`."""
        tokens = grid.flatten(1, 2).transpose(1, 2)  # (batch, width, tokens)
        mean, deviation = self._moments(tokens, torch.full_like(tokens, 1.0 / tokens.shape[2]))
        context = torch.cat([mean, deviation], dim=1).unsqueeze(2).expand(-1, -1, tokens.shape[2])
        weight = self.attention(torch.cat([tokens, context], dim=1)).softmax(dim=2)
        pooled = torch.cat(self._moments(tokens, weight), dim=1)
        return self.out_norm(self.project(self.norm(pooled)))  # type: ignore[no-any-return]

    @staticmethod
    def _moments(tokens: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        mean = (weight * tokens).sum(dim=2)
        offset = tokens - mean.unsqueeze(2)
        return mean, (weight * offset * offset).sum(dim=2).clamp(min=_TINY).sqrt()


# The exponents of arXiv 2603.04605: BEATs' tokens lie closer together than others'.
_GAMMA = {"beats": 19.0}
_GAMMA_ELSE = 10.0
_GAMMA_HYBRID = 16.0
_POWER = 3.0

_MAKERS: dict[str, Callable[[Backbone, float | None, int], nn.Module]] = {
    "mean": lambda _b, _g, _d: Mean(),
    "max": lambda _b, _g, _d: Max(),
    "mean_max": lambda _b, _g, _d: MeanMax(),
    "gem": lambda _b, power, _d: GeneralizedMean(_POWER if power is None else power),
    "rdp": lambda b, gamma, _d: RelativeDeviation(
        _GAMMA.get(b.family, _GAMMA_ELSE) if gamma is None else gamma
    ),
    "rdp_gem": lambda _b, gamma, _d: RelativeDeviation(
        _GAMMA_HYBRID if gamma is None else gamma, _POWER
    ),
    "attentive": lambda b, _g, dim: AttentiveStatistics(b.width, dim),
    "bands": lambda _b, _g, _d: Bands(),
    "summary": lambda _b, _g, _d: Summary(),
}
POOLINGS = tuple(_MAKERS)


class Summary(nn.Module):
    """Marks the class token; `pool` takes it from the hidden state instead of the grid."""


def make_pooling(
    name: str, backbone: Backbone, *, exponent: float | None = None, dim: int = 256
) -> nn.Module:
    """A pooling by name.

    Args:
        name: One of `POOLINGS`.
        backbone: The encoder it is for.
        exponent: p of `gem`, gamma of `rdp` and `rdp_gem`; None for the published ones.
        dim: Length of the vector `attentive` gives.

    Raises:
        KeyError: There is no such pooling, or the encoder has no class token for `summary`.
    """
    if name == "summary" and not backbone.summarised():
        raise KeyError(name)
    return _MAKERS[name](backbone, exponent, dim)


def pool(pooling: nn.Module, hidden: Hidden) -> Tensor:
    """Make one vector of one layer: `(batch, dim)`."""
    if isinstance(pooling, Summary):
        assert hidden.summary is not None
        return hidden.summary
    return pooling(hidden.grid)  # type: ignore[no-any-return]


def pooled_width(name: str, backbone: Backbone, dim: int) -> int:
    """Length of the vector a pooling gives for one layer."""
    if name == "attentive":
        return dim
    return backbone.width * {"mean_max": 2, "bands": backbone.bands()}.get(name, 1)

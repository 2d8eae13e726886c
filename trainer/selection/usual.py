"""The candidates of a selection when a preset names none: scorers of its own encoder.

Between encoders made-up faults decide badly (docs/guide/fusion.md), so other encoders, layers and
poolings compete only where a preset lists them.
"""

from __future__ import annotations

from pydantic import ValidationError

from agent.config.scorer import FusionConfig, ScorerConfig
from agent.config.scorer_density import MahalanobisConfig, MixtureConfig
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import ConfigError
from agent.core.schema import explain
from trainer.preset import Preset, SelectionConfig

# Nearest neighbours plain and normalised, in one bank and in two; a density; a covariance.
SCORERS: tuple[ScorerConfig, ...] = (
    KnnConfig(normalization="none"),
    KnnConfig(normalization="varmin"),
    KnnConfig(normalization="ldn_ratio", density_k=8),
    KnnConfig(normalization="ldn_ratio", banks="domains", density_k=16),
    KnnConfig(normalization="none", banks="domains", domain_scale="median"),
    MahalanobisConfig(covariance="pooled"),
    MixtureConfig(),
)


def with_selection(preset: Preset, wanted: bool | None) -> Preset:
    """The preset with or without a selection.

    Args:
        preset: The recipe.
        wanted: None leaves it to the preset; True adds the usual candidates where it has none.

    Raises:
        ConfigError: The usual candidates do not fit it.
    """
    if wanted is None or (wanted and preset.selection is not None):
        return preset
    if not wanted:
        return preset.model_copy(update={"selection": None})
    selection = SelectionConfig(scorers=_scorers(preset))
    data = preset.model_dump(mode="python") | {"selection": selection.model_dump(mode="python")}
    try:
        return Preset.model_validate(data)
    except ValidationError as fault:
        raise ConfigError(
            explain(fault), where=preset.name, remedy="Write a `selection` of your own into it."
        ) from fault


def _scorers(preset: Preset) -> tuple[ScorerConfig, ...]:
    own = preset.scorer
    if not isinstance(own, FusionConfig):
        return SCORERS
    # A fusion stays one: all its judges change alike, and how they are combined.
    found: list[ScorerConfig] = []
    for scorer in SCORERS:
        if isinstance(scorer, KnnConfig):
            parts = tuple(part.model_copy(update={"scorer": scorer}) for part in own.parts)
            found.append(own.model_copy(update={"parts": parts}))
    found += [
        own.model_copy(update={"combine": "min", "normalize": "quantile"}),
        own.model_copy(update={"combine": "mean", "normalize": "quantile"}),
    ]
    return tuple(found)

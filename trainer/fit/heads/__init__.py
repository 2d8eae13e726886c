"""Losses that an encoder is trained against; they leave with the training."""

from __future__ import annotations

from trainer.fit.config import TrainingConfig
from trainer.fit.heads.adacos import AdaCos, SubclusterAdaCos
from trainer.fit.heads.adaproj import AdaProj
from trainer.fit.heads.arcface import ArcFace, NoisyArcMix
from trainer.fit.heads.base import Head


def make_head(dim: int, classes: int, config: TrainingConfig) -> Head:
    """The loss that a preset's `training` section asks for.

    Args:
        dim: Length of the embedding.
        classes: Classes to tell apart.
        config: The section.

    Raises:
        ConfigError: The embedding is too short for it.
    """
    head: Head
    if config.head == "adacos":
        head = AdaCos(dim, classes, adaptive=config.adaptive_scale)
    elif config.head == "scadacos":
        head = SubclusterAdaCos(
            dim, classes, clusters=config.subcentres, adaptive=config.adaptive_scale
        )
    elif config.head == "adaproj":
        head = AdaProj(dim, classes, subspace=config.subspace_dim, adaptive=config.adaptive_scale)
    else:
        made = NoisyArcMix if config.head == "noisy_arcmix" else ArcFace
        head = made(
            dim,
            classes,
            margin=config.margin,
            scale=config.scale,
            subcentres=config.subcentres,
            easy=config.easy_margin,
        )
    head.requires_grad_(config.train_centres)
    return head


__all__ = ["Head", "make_head"]

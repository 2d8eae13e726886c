"""From a preset's `encoder` section to the encoder."""

from __future__ import annotations

from pathlib import Path

import torch

from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.acae import AttentiveAutoencoder
from trainer.encoders.autoencoder import DenseAutoencoder
from trainer.encoders.base import Encoder
from trainer.encoders.bigru import BigruAutoencoder
from trainer.encoders.dual_path import DualPath, DualPathEnsemble
from trainer.encoders.floors import LogMel, Loudness
from trainer.encoders.joined import Joined
from trainer.encoders.mn04 import PUBLISHED, Mn04
from trainer.encoders.quantiles import SpectralQuantiles
from trainer.encoders.segmented import Segmented
from trainer.encoders.shape import SpectralShape
from trainer.encoders.speech import SpeechEmbedding
from trainer.encoders.views import SoundViews
from trainer.encoders.yamnet import Yamnet
from trainer.zoo.encoder import build_pretrained
from trainer.zoo.families import FAMILIES

_SHORTEST_DUAL_PATH = 1.0  # seconds: shorter, and the strided convolutions have nothing to see


def build_encoder(
    config: EncoderConfig,
    *,
    window_seconds: float,
    weights: Path | None,
    seed: int,
    members: int = 1,
) -> Encoder:
    """Make the encoder a preset asks for, in evaluation mode.

    Args:
        config: The preset's `encoder` section. With `weights: null` a pre-trained kind is left at
            its initial values, for a caller that restores a run's own values next.
        window_seconds: Length of the waveform it will take, seconds.
        weights: Folder that holds published checkpoints, or the one file; None when none is known.
        seed: Seeds the initial values of what is trained from scratch. The global random state is
            left as it was.
        members: Independently seeded models whose embeddings are concatenated (the preset's
            `training.ensemble`); only dual_path, on whole windows, has more than one.

    Returns:
        The encoder. The same arguments give the same values.

    Raises:
        ConfigError: A feature name is unknown, or a checkpoint is missing, damaged or another
            model's.
    """
    if members > 1 and (config.kind != "dual_path" or config.segments > 1):
        # Inside another encoder the models would be trained as one, not each by itself.
        what = config.kind if config.segments == 1 else f"{config.kind} in segments"
        raise ConfigError(
            f"ensembles are of dual_path alone, not of {what}",
            where="training.ensemble",
            remedy="Set it to 1.",
        )
    if config.kind == "joined":
        encoders = [
            build_encoder(
                part,
                window_seconds=window_seconds,
                weights=weights,
                seed=seed + place,
            )
            for place, part in enumerate(config.parts)
        ]
        return Joined(
            encoders,
            window_seconds=window_seconds,
            unit=[config.unit or part.unit for part in config.parts],
            together=config.together,
            last_of=config.last_of,
        ).eval()
    if config.segments > 1:
        piece = build_encoder(
            config.model_copy(update={"segments": 1}),
            window_seconds=window_seconds / config.segments,
            weights=weights,
            seed=seed,
        )
        return Segmented(piece, config.segments).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = _build(config, window_seconds, weights, members)
    if config.weights is not None and isinstance(encoder, (Mn04, Yamnet, SpeechEmbedding)):
        encoder.load_published(_checkpoint(config.kind, config.weights, weights))
    return encoder.eval()


def _build(
    config: EncoderConfig, window_seconds: float, weights: Path | None, members: int
) -> Encoder:
    if config.kind not in FAMILIES:
        _refuse_transformer_fields(config)
    if config.kind == "mn04":
        return Mn04(window_seconds=window_seconds, features=config.features, level=config.level)
    if config.kind == "yamnet":
        return Yamnet(window_seconds=window_seconds, features=config.features, level=config.level)
    if config.kind == "speech_embedding" and not config.features:
        return SpeechEmbedding(window_seconds=window_seconds, level=config.level)
    if config.level != "keep":
        raise ConfigError(
            f"{config.kind} has no way to remove level",
            where="encoder.level",
            remedy="Leave it out; it is for mn04, yamnet and speech_embedding.",
        )
    if config.kind == "ae":
        return DenseAutoencoder(window_seconds=window_seconds, features=config.features)
    if config.kind == "acae":
        return AttentiveAutoencoder(window_seconds=window_seconds, features=config.features)
    if config.features:
        raise ConfigError(
            f"{config.kind} has one kind of features only, not '{config.features}'",
            where="encoder.features",
            remedy="Leave it out.",
        )
    if config.kind in FAMILIES:
        checkpoint = (
            None if config.weights is None else _checkpoint(config.kind, config.weights, weights)
        )
        return build_pretrained(config, window_seconds=window_seconds, checkpoint=checkpoint)
    if config.kind == "dual_path":
        if window_seconds < _SHORTEST_DUAL_PATH:
            raise ConfigError(
                f"dual_path needs windows of at least {_SHORTEST_DUAL_PATH} s, not "
                f"{window_seconds} s",
                where="window.seconds",
                remedy="Lengthen the window.",
            )
        if members > 1:
            return DualPathEnsemble(window_seconds=window_seconds, members=members)
        return DualPath(window_seconds=window_seconds)
    if config.kind == "bigru":
        return BigruAutoencoder(window_seconds=window_seconds)
    if config.kind == "spectral_quantiles":
        return SpectralQuantiles(window_seconds=window_seconds)
    if config.kind == "sound_views":
        return SoundViews(window_seconds=window_seconds)
    if config.kind == "spectral_shape":
        return SpectralShape(window_seconds=window_seconds)
    if config.kind == "log_mel":
        return LogMel(window_seconds=window_seconds)
    return Loudness(window_seconds=window_seconds)


def _refuse_transformer_fields(config: EncoderConfig) -> None:
    for field in ("size", "layers", "pooling", "pooling_exponent", "merge_after", "heads"):
        if getattr(config, field) not in {"", (), None}:
            raise ConfigError(
                f"means nothing to {config.kind}: it is for {', '.join(FAMILIES)}",
                where=f"encoder.{field}",
                remedy="Leave it out.",
            )


def _checkpoint(kind: str, name: str, weights: Path | None) -> Path:
    source = PUBLISHED if kind == "mn04" else "`auscult pretrained list` says where they are"
    if weights is None:
        raise ConfigError(
            f"pre-trained weights {name} are needed, and nothing says where they are",
            where="encoder.weights",
            remedy=f"Give --weights (or AUSCULT_WEIGHTS), a folder that holds them: {source}.",
        )
    return weights / name if weights.is_dir() else weights

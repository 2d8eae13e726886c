"""Encoders that are ready to use: shipped with auscult, or another bundle's.

    agent/learn/graphs/<preset>/
        encoder.onnx             the graph
        frames.onnx, body.onnx   its parts, for windows that share frames
        encoder.json             what it takes and gives, and the recipe it is for

`python -m tools.graphs` writes them by the exporter's own code. What is shipped has learnt nothing
from data; published weights are not ours to ship, and come with a bundle that was exported of them.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError

from agent.bundle.facts import ViewInfo
from agent.bundle.manifest import (
    BODY,
    ENCODER,
    ENCODER_DATA,
    FLOAT_ENCODER,
    FRAMES,
    PATCH_FILES,
    EncoderInfo,
    Manifest,
    Quantization,
)
from agent.bundle.seal import file_record
from agent.bundle.verify import verify_bundle
from agent.config.recipe import DriftConfig, Recipe, ThresholdConfig, WindowConfig
from agent.core.errors import BundleError, ConfigError
from agent.core.schema import Strict, explain, read_model
from agent.explain.grid import PatchGrid
from agent.learn.assemble import Graph

GRAPHS = Path(__file__).parent / "graphs"
RECORD = "encoder.json"
DEFAULT = "auscult_scratch"


class ShippedEncoder(Strict):
    """`encoder.json` beside a graph that is shipped."""

    encoder: Annotated[EncoderInfo, Field(description="What the graph takes and gives")]
    views: Annotated[tuple[ViewInfo, ...], Field(description="What its embedding is made of")]
    recipe: Annotated[Recipe, Field(description="What is made of its embeddings")]
    torch_cosine_min: Annotated[
        float,
        Field(description="Smallest cosine similarity of the graph to torch when made"),
    ]
    files: Annotated[dict[str, str], Field(description="SHA-256 of each file")]
    made_of: Annotated[
        str, Field(description="Digest of the encoder's recipe and weights that it was made of")
    ] = ""
    pinned: Annotated[
        tuple[str, ...], Field(description="Nodes of the graph that must stay float32")
    ] = ()


@dataclass(frozen=True, slots=True)
class ReadyEncoder:
    """An encoder's graph, to be copied into a bundle.

    Attributes:
        folder: Where its files are.
        files: Their names.
        info: What the graph takes and gives.
        graph: What is known of it.
        recipe: What is made of its embeddings.
        origin: Where it comes from, in words.
    """

    folder: Path
    files: tuple[str, ...]
    info: EncoderInfo
    graph: Graph
    recipe: Recipe
    origin: str

    def copy(self, to: Path) -> None:
        """Write its files into a bundle's folder."""
        for name in self.files:
            shutil.copyfile(self.folder / name, to / name)

    @property
    def plain(self) -> Path | None:
        """The float graph beside an INT8 one; None where there is none."""
        return self.folder / FLOAT_ENCODER if FLOAT_ENCODER in self.files else None


def shipped_names() -> list[str]:
    """Presets whose encoders are shipped."""
    return sorted(place.parent.name for place in GRAPHS.glob(f"*/{RECORD}"))


def shipped_encoder(name: str = DEFAULT) -> ReadyEncoder:
    """An encoder that is shipped.

    Args:
        name: The preset's.

    Raises:
        ConfigError: None is shipped of that name, or its files were altered.
    """
    folder = GRAPHS / name
    record = shipped_record(name)
    size = (folder / ENCODER).stat().st_size
    quantization = Quantization(
        mode="none", float_bytes=size, bytes=size, cosine_mean=1.0, cosine_min=1.0,
        torch_cosine_min=record.torch_cosine_min,
    )  # fmt: skip
    graph = Graph(quantization, record.views)
    return ReadyEncoder(
        folder, tuple(record.files), record.encoder, graph, record.recipe, f"auscult's own {name}"
    )


def shipped_record(name: str) -> ShippedEncoder:
    """What a shipped encoder says of itself, its files held against it.

    Raises:
        ConfigError: As `shipped_encoder`.
    """
    folder = GRAPHS / name
    if name not in shipped_names():
        raise ConfigError(
            f"no encoder of the preset '{name}' comes with auscult",
            remedy=f"Take {', '.join(shipped_names())}, or name a bundle with that encoder "
            "(--encoder-from BUNDLE): published weights are not ours to ship, so it is exported "
            "once on a workstation.",
        )
    record = read_model(
        folder / RECORD, ShippedEncoder, error=ConfigError, remedy="Install auscult again."
    )
    for file, digest in record.files.items():
        if not (folder / file).is_file() or file_record(folder / file).sha256 != digest:
            raise ConfigError(
                "is not what was shipped", where=folder / file, remedy="Install auscult again."
            )
    return record


def encoder_of(bundle: Path) -> ReadyEncoder:
    """The encoder of a bundle, with the recipe that the bundle was made by.

    Args:
        bundle: Its folder; every file in it is held against the manifest.

    Raises:
        BundleError: It is no bundle, or was altered.
    """
    manifest = verify_bundle(bundle)
    names = (ENCODER, ENCODER_DATA, FLOAT_ENCODER, FRAMES, BODY)
    files = tuple(name for name in names if name in manifest.files)
    notes = (f"its encoder is that of the bundle {manifest.digest[:12]}",)
    graph = Graph(
        quantization=manifest.quantization.model_copy(update={"hmean_change": None}),
        views=manifest.views,
        similar=manifest.quantization.cosine_mean,
        grid=_grid(bundle, manifest),
        notes=notes,
    )
    return ReadyEncoder(
        bundle, files, manifest.encoder, graph, _recipe(bundle, manifest), f"that of {bundle}"
    )


def _recipe(bundle: Path, manifest: Manifest) -> Recipe:
    """What a manifest says of how its bundle was made."""
    rule, seconds = manifest.threshold.rule, manifest.window_seconds
    asked: dict[str, Any] = {"false_alarm_rate": manifest.threshold.false_alarm_rate}
    if rule is not None:
        asked = {
            "rule": rule.kind, "false_alarm_rate": rule.false_alarm_rate,
            "sigmas": rule.sigmas, "domains": rule.domains,
        }  # fmt: skip
        wanted = None if manifest.sight is None else manifest.sight.wanted
        if rule.promise is not None and wanted is not None:
            asked["false_alarms"] = wanted
    step = None if manifest.drift is None else manifest.drift.step_seconds
    try:
        return Recipe(
            name=manifest.trained_on.preset,
            window=WindowConfig(
                seconds=seconds,
                hop_seconds=manifest.hop_seconds,
                train_hop_seconds=manifest.clip_hop_seconds,
                clip_seconds=manifest.clip_seconds,
            ),
            scorer=manifest.scorer,
            threshold=ThresholdConfig.model_validate(asked),
            drift=DriftConfig(step_seconds=None if step == seconds else step),
        )
    except ValidationError as fault:
        raise BundleError(
            f"does not say how it was made: {explain(fault)}",
            where=bundle,
            remedy="Export it anew with this version of auscult.",
        ) from fault


def _grid(bundle: Path, manifest: Manifest) -> PatchGrid | None:
    """Where its encoder's patches lie, by its healthy patches; None without any."""
    name = PATCH_FILES[2]
    if name not in manifest.files:
        return None
    rows = np.load(bundle / name, allow_pickle=False)
    return PatchGrid((*rows[:, 0].tolist(), float(rows[-1, 1])), float(rows[0, 5]))

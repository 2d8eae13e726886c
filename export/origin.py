"""What a run says of its detector's origin, its graph, and how its recordings are cut."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.bundle.facts import ViewInfo
from agent.bundle.manifest import Quantization
from agent.learn.assemble import Graph
from agent.learn.draft import Origin
from agent.recordings.windows import Cutting
from export.compare import Comparison
from trainer.encoders.base import Encoder
from trainer.preset import Preset
from trainer.published.follow import report_info
from trainer.run import RunRecord, unheard

if TYPE_CHECKING:
    from export.quantize import Quantized


def origin_of(record: RunRecord) -> Origin:
    """The origin of a run's detector."""
    chosen = "" if record.selection is None else record.selection.note
    return Origin(
        machine=record.machine,
        recipe=record.preset,
        seed=record.seed,
        channel=record.channel,
        hygiene=record.hygiene,
        used=frozenset(recording.path for recording in record.recordings),
        classes=record.classes,
        class_rule=record.class_rule,
        report=report_info(record.preset),
        unheard=unheard(record),
        notes=tuple(note for note in (chosen, _learnt(record)) if note),
    )


def cutting_of(record: RunRecord, encoder: Encoder) -> Cutting:
    """How a run's recordings are cut for its encoder."""
    window = record.preset.window
    return Cutting(
        encoder.sample_rate,
        encoder.window_samples,
        round(window.train_hop_seconds * encoder.sample_rate),
        window.clip_seconds,
        record.channel,
    )


def graph_facts(
    encoder: Encoder, preset: Preset, comparison: Comparison, quantized: Quantized | None
) -> Graph:
    """What is known of an exported graph.

    Args:
        encoder: The encoder in torch.
        preset: The recipe.
        comparison: What export changed.
        quantized: How the graph was quantized; None where it was not.
    """
    notes: tuple[str, ...] = ()
    if quantized is not None and quantized.float_nodes:
        turned = ", ".join(quantized.float_nodes)
        notes = (f"left in float32 because INT8 turned the embeddings too far: {turned}",)
    return Graph(
        quantization=Quantization(
            mode=preset.quantization.mode if quantized else "none",
            float_bytes=comparison.float_bytes,
            bytes=comparison.bytes,
            cosine_mean=comparison.cosine_mean,
            cosine_min=comparison.cosine_min,
            torch_cosine_min=comparison.torch_cosine_min,
            int8_nodes=quantized.int8_nodes if quantized else 0,
            float_nodes=len(quantized.float_nodes) if quantized else 0,
            hmean_change=comparison.test.change if comparison.test else None,
        ),
        views=view_infos(encoder),
        similar=comparison.cosine_mean,
        grid=encoder.patch_grid,
        notes=notes,
    )


def view_infos(encoder: Encoder) -> tuple[ViewInfo, ...]:
    """The views of an encoder, for a manifest."""
    return tuple(
        ViewInfo(
            name=view.name,
            start=view.start,
            stop=view.stop,
            level=view.level,
            low_hz=view.low_hz,
            high_hz=view.high_hz,
        )
        for view in encoder.views
    )


def _learnt(record: RunRecord) -> str:
    """What the threshold is worth where it comes from recordings that the network has learnt."""
    kind = record.preset.training.kind
    if kind == "frozen" or unheard(record):
        return ""
    if kind == "reconstruct":
        return (
            "the threshold comes from the recordings that the network was trained to restore, and "
            "it restores those better than any new sound of the healthy machine: expect many more "
            "false alarms than promised. With `training: {held_out: 0.2}` in the preset a fifth of "
            "the recordings is kept from training, and the threshold comes from those alone"
        )
    return (
        "the threshold comes from recordings that the network was trained on, so new sound of the "
        "healthy machine may lie above it more often than promised: count false alarms over some "
        "healthy days before relying on it"
    )

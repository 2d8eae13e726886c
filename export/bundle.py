"""From a trained run to a bundle: encoder graph, memory bank, threshold, all sealed.

The bank is made of what the exported graph gives through the agent's own code, so quantization
moves the bank and the device's embeddings alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from agent.bundle.manifest import (
    ENCODER,
    EncoderInfo,
    Manifest,
)
from agent.bundle.seal import new_bundle, seal
from agent.bundle.sign import load_private, sign_folder
from agent.bundle.verify import read_manifest
from agent.calibrate.fit_cache import FitCache
from agent.core.progress import progress_bar
from agent.core.records import Matrix
from agent.deploy.load import open_bundle
from agent.deploy.opening import user_log
from agent.encode.embedding_cache import EmbeddingCache
from agent.learn.assemble import Graph, Material, assemble
from agent.learn.detector import Detector, make_detector, write_files
from agent.learn.draft import draft_manifest
from agent.learn.embed import embed
from agent.learn.places import spread
from agent.learn.planted import faulty_windows
from agent.learn.promise import heard_hours
from agent.learn.rehearsal import Rehearsal
from agent.learn.untypical import refuse_apart
from agent.recordings.model import Machine
from agent.verdict.advice import what_to_record
from agent.verdict.verdict import Standing, Verdict, judge
from export.compare import (
    Comparison,
    compare_tests,
    comparison_table,
    refuse_cosine,
    refuse_hmean,
    similarity,
    window_ms,
)
from export.framed import keep_proven, write_parts
from export.lent import Lent, lend
from export.origin import cutting_of, graph_facts, origin_of
from trainer.fit.densities import ScikitFitter
from trainer.graph import storage
from trainer.graph.encoder_info import encoder_info
from trainer.graph.graph_cache import GraphCache
from trainer.graph.onnx_graph import FloatGraph, verify_parity
from trainer.preset import Preset
from trainer.run import load_run
from trainer.zoo.catalogue import licence_of

if TYPE_CHECKING:
    from export.quantize import Quantized

# Real windows held against torch, beside synthetic ones.
_PARITY_WINDOWS = 8


@dataclass(frozen=True, slots=True)
class Exported:
    """A bundle that was written.

    Attributes:
        manifest: Its manifest.
        comparison: What export changed.
        rehearsal: What its threshold would have done with its own healthy recordings.
        tested: Verdict on what the threshold does with the test recordings; None untested.
        healthy_hours: Of sound that it was learnt from.
    """

    manifest: Manifest
    comparison: Comparison
    rehearsal: Rehearsal
    tested: Verdict | None = None
    healthy_hours: float = 0.0


def export_run(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    precision: Literal["int8", "float32"] = "int8",
    test: bool = True,
    console: Console | None = None,
    cache: EmbeddingCache | None = None,
    graphs: GraphCache | None = None,
    fits: FitCache | None = None,
) -> Manifest:
    """Write a run's bundle and print what export changed.

    Args:
        run: The run folder.
        out: The bundle's folder; an earlier bundle there is replaced.
        data: Where the recordings are now, when not where they were trained from.
        precision: `float32` leaves quantization out whatever the preset says.
        test: Also score the test set, where there is one, through both graphs.
        console: Where to tell; the standard error stream when None.
        cache: Where embeddings are kept for other exports of the same graph; None for nowhere.
        graphs: Where graphs are kept for other exports of the same encoder; None for nowhere.
        fits: Where fits of scorers are kept; None for nowhere.

    Returns:
        The manifest as written.

    Raises:
        ConfigError: The run is not whole, or recordings are gone.
        ExportError: The graph disagrees with torch, or quantization went beyond the preset's
            bounds. Nothing is written then.
        BundleError: `out` holds something else, or cannot be written.
        AuscultError: Too few healthy recordings.
    """
    return export_bundle(
        run,
        out,
        data=data,
        precision=precision,
        test=test,
        console=console,
        cache=cache,
        graphs=graphs,
        fits=fits,
    ).manifest


def export_bundle(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    precision: Literal["int8", "float32"] = "int8",
    test: bool = True,
    sign: Path | None = None,
    machine_name: str | None = None,
    counter: int | None = None,
    sound: bool = True,
    console: Console | None = None,
    cache: EmbeddingCache | None = None,
    graphs: GraphCache | None = None,
    fits: FitCache | None = None,
    encoder_from: Path | None = None,
) -> Exported:
    """Make a bundle, as `export_run`, and give the comparison too.

    Args:
        run: The run folder.
        out: The bundle's folder.
        data: Where the recordings are now.
        precision: `float32` leaves quantization out.
        test: Also score the test set.
        sign: Private key to sign the bundle with, read before the work begins.
        machine_name: The machine that it is for; the run's when None.
        counter: What a device orders a machine's bundles by; seconds since 1970 when None.
        sound: Carry a few healthy windows as sound, to be heard beside an alarm.
        console: Where to tell.
        cache: Where embeddings are kept.
        graphs: Where graphs are kept.
        fits: Where fits of scorers are kept.
        encoder_from: A bundle whose INT8 graph is taken as it is, so that both hold the same file;
            None calibrates one on this machine's sound.

    Raises:
        SigningError: The key cannot be used.
        ExportError: The lent graph is of another encoder.
    """
    console = console or Console(stderr=True)
    key = None if sign is None else load_private(sign)
    record, encoder = load_run(run)
    machine = record.to_machine(data)
    preset, origin = record.preset, origin_of(record)
    with (
        new_bundle(out) as folder,
        tempfile.TemporaryDirectory(prefix="auscult-") as work,
        progress_bar(console) as progress,
    ):
        cutting = cutting_of(record, encoder)
        material = Material.gather(machine, cutting, progress)
        windows, still = material.windows, material.still
        task = progress.add_task("exporting the encoder", total=2)
        graphs = graphs or GraphCache(Path(work), limit=0)
        graph = graphs.graph(encoder, preset, Path(work))
        progress.advance(task)
        torch_cosine = verify_parity(
            encoder, graph.path, windows.waveforms[spread(len(windows.rows), _PARITY_WINDOWS)]
        )
        progress.advance(task)
        info = encoder_info(encoder, "float32", graph.opset).model_copy(
            update={"licence": licence_of(preset.encoder)}
        )
        target = folder / ENCODER
        lent: Lent | None = None
        quantized: Quantized | None = None
        if encoder_from is not None:
            lent = lend(encoder_from, folder, info)
        else:
            quantized = _quantize(
                graph, target, windows.waveforms, info, preset, precision, encoder.columns,
                graphs, progress,
            )  # fmt: skip
        int8 = lent is not None or quantized is not None
        exported = info.model_copy(update={"precision": "int8" if int8 else "float32"})

        def facts_of(comparison: Comparison) -> Graph:
            own = graph_facts(encoder, preset, comparison, quantized)
            return own if lent is None else lent.facts(own)

        embedder = partial(embed, cache=cache)

        def detector(path: Path, what: EncoderInfo) -> Detector:
            return make_detector(
                path, what, windows, still, preset, progress, fitter=ScikitFitter(),
                unheard=origin.unheard, untypical=origin.untypical,
                embedder=embedder, fits=fits,
            )  # fmt: skip

        plain = detector(graph.path, info)
        final = detector(target, exported) if int8 else plain
        refuse_apart(final.apart, record.hygiene, record.machine)
        mean, least = similarity(plain.vectors, final.vectors, encoder.columns)
        one = windows.waveforms[:1]
        float_ms = window_ms(graph.path, info, one)
        comparison = Comparison(
            float_bytes=storage.size(graph.path),
            bytes=storage.size(target),
            cosine_mean=mean,
            cosine_min=least,
            torch_cosine_min=torch_cosine,
            float_ms=float_ms,
            ms=window_ms(target, exported, one) if int8 else float_ms,
        )
        if lent is not None:
            lent.refuse(comparison, preset.quantization)
        elif quantized:
            refuse_cosine(comparison, preset.quantization)
        task = progress.add_task("dividing the graph for overlapping windows", total=1)
        if lent is not None:
            keep_proven(target, exported, windows.waveforms)
        else:
            write_parts(encoder, target, exported, windows.waveforms, graph.frames)
        progress.advance(task)
        done = assemble(
            folder, material, origin,
            facts_of(comparison),
            final, plain,
            faulty=faulty_windows(machine, cutting, progress) if test else None,
            sound=sound, machine_name=machine_name, counter=counter, progress=progress,
            embedder=embedder,
        )  # fmt: skip
        manifest = done.manifest
        if test:
            plain_folder = None
            if int8:
                plain_folder = Path(work) / "plain"
                plain_folder.mkdir()
                storage.copy(graph.path, plain_folder / ENCODER)
                indexes = write_files(plain_folder, plain, windows, still)
                facts = graph_facts(encoder, preset, comparison, None)
                seal(
                    plain_folder,
                    draft_manifest(origin, machine, windows, plain, facts.quantization).model_copy(
                        update={"indexes": indexes}
                    ),
                )
            change = compare_tests(folder, plain_folder, machine, record, progress, cache)
            if change is not None:
                comparison = replace(comparison, test=change)
                if int8:
                    refuse_hmean(change, preset.quantization)
                facts = facts_of(comparison)
                manifest = seal(
                    folder, manifest.model_copy(update={"quantization": facts.quantization})
                )
        if key is not None:
            sign_folder(folder, key)
        # What a device does first: nothing takes the bundle's name that it would refuse.
        open_bundle(folder).close()
        user_log().prove(read_manifest(folder).digest)
    rehearsal = done.rehearsal
    agree = rehearsal.agreement
    if agree is not None and agree.ruined:
        console.print(f"[bold red]{escape(agree.ruined)}[/bold red]", highlight=False)
    console.print(
        comparison_table(
            comparison,
            mode=manifest.quantization.mode,
            int8_nodes=manifest.quantization.int8_nodes,
            float_nodes=manifest.quantization.float_nodes,
        )
    )
    hours = heard_hours(windows, preset.window.seconds)
    return Exported(manifest, comparison, rehearsal, _tested(comparison, machine, preset), hours)


def _tested(comparison: Comparison, machine: Machine, preset: Preset) -> Verdict | None:
    if comparison.test is None:
        return None
    figures = comparison.test.figures
    standing = Standing(hmean=comparison.test.hmean, promise=preset.threshold.false_alarm_rate)
    return judge(figures, standing, what_to_record(machine, figures))


def _quantize(
    graph: FloatGraph,
    out: Path,
    waveforms: Matrix,
    info: EncoderInfo,
    preset: Preset,
    precision: Literal["int8", "float32"],
    spans: Sequence[tuple[int, int]],
    graphs: GraphCache,
    progress: Progress,
) -> Quantized | None:
    """Write the graph that the bundle will hold; None when it stays float32."""
    bounds = preset.quantization
    if precision == "float32" or bounds.mode == "none":
        storage.copy(graph.path, out)
        return None
    # With what it brings it takes most of a second to load.
    from export.kept_int8 import quantize  # noqa: PLC0415

    result = quantize(graph, out, waveforms, info, bounds, graphs, spans=spans, progress=progress)
    if result.int8_nodes:
        return result
    storage.copy(graph.path, out)
    return None

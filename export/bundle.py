"""From a trained run to a bundle: encoder graph, memory bank, threshold, all sealed.

The bank is made of what the exported graph gives through the agent's own code, so quantization
moves the bank and the device's embeddings alike.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from agent.bundle.manifest import (
    DRIFT,
    ENCODER,
    HEALTHY_SPECTRUM,
    EncoderInfo,
    Manifest,
)
from agent.bundle.seal import new_bundle, seal
from agent.bundle.sign import load_private, sign_folder
from agent.bundle.verify import read_manifest
from agent.calibrate.limits import HealthyScores
from agent.core.records import Matrix
from agent.deploy.load import open_bundle
from agent.deploy.opening import user_log
from agent.drift.baseline import save_baseline
from agent.explain.spectrum import measure_healthy
from export import storage
from export.compare import (
    Comparison,
    compare_tests,
    comparison_table,
    refuse_cosine,
    refuse_hmean,
    similarity,
    window_ms,
)
from export.draft import draft_manifest
from export.embed import encoder_info
from export.embedding_cache import EmbeddingCache
from export.framed import write_parts
from export.graph_cache import GraphCache
from export.onnx_graph import FloatGraph, export_graph, verify_parity
from export.parity import write_parity
from export.parts.detector import Detector, make_detector, still_windows, with_promise, write_files
from export.parts.drift import FittedDrift, fit_drift
from export.parts.exemplars import write_exemplars
from export.parts.patches import fit_patches, write_patches
from export.quantize import Quantized, quantize_static, quantize_weights, spread
from export.untypical import refuse_apart
from trainer.decisions.advice import what_to_record
from trainer.decisions.planted import faulty_windows
from trainer.decisions.promised import heard_hours
from trainer.decisions.rehearsal import Rehearsal, summed_up
from trainer.decisions.untypical import untypical_sources
from trainer.decisions.verdict import Standing, Verdict, judge
from trainer.learn import HEALTHY
from trainer.preset import Preset
from trainer.progress import progress_bar
from trainer.recordings.model import Machine
from trainer.run import RunRecord, load_run, unheard
from trainer.windows import WindowSet, healthy_windows, source_name
from trainer.zoo.catalogue import licence_of

# Real windows held against torch, beside synthetic ones.
_PARITY_WINDOWS = 8
# Healthy windows whose levels are measured for explanations: more would not change their mean.
_SPECTRUM_WINDOWS = 400


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
) -> Exported:
    """As `export_run`, and give the comparison too.

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

    Raises:
        SigningError: The key cannot be used.
    """
    console = console or Console(stderr=True)
    key = None if sign is None else load_private(sign)
    record, encoder = load_run(run)
    machine = record.to_machine(data)
    preset = record.preset
    with (
        new_bundle(out) as folder,
        tempfile.TemporaryDirectory(prefix="auscult-") as work,
        progress_bar(console) as progress,
    ):
        windows = healthy_windows(
            machine,
            rate=encoder.sample_rate,
            window_samples=encoder.window_samples,
            hop_samples=round(preset.window.train_hop_seconds * encoder.sample_rate),
            roles=HEALTHY,
            clip_seconds=preset.window.clip_seconds,
            channel=record.channel,
            progress=progress,
        )
        still = still_windows(machine, record, encoder, progress)
        if graphs is None:
            graph = export_graph(encoder, Path(work) / "float.onnx")
        else:
            graph = graphs.graph(encoder, preset)
        torch_cosine = verify_parity(
            encoder, graph.path, windows.waveforms[spread(len(windows.rows), _PARITY_WINDOWS)]
        )
        info = encoder_info(encoder, "float32", graph.opset).model_copy(
            update={"licence": licence_of(preset.encoder)}
        )
        target = folder / ENCODER
        quantized = _quantize(
            graph, target, windows.waveforms, info, preset, precision, encoder.columns, progress
        )
        exported = info.model_copy(update={"precision": "int8" if quantized else "float32"})

        held = unheard(record)
        odd = untypical_sources(record)
        plain = make_detector(
            graph.path,
            info,
            windows,
            still,
            preset,
            progress,
            unheard=held,
            untypical=odd,
            cache=cache,
        )
        final = plain
        if quantized is not None:
            final = make_detector(
                target,
                exported,
                windows,
                still,
                preset,
                progress,
                unheard=held,
                untypical=odd,
                cache=cache,
            )
        refuse_apart(final.apart, record)
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
            ms=window_ms(target, exported, one) if quantized else float_ms,
        )
        if quantized:
            refuse_cosine(comparison, preset.quantization)

        rate, samples = exported.sample_rate, exported.window_samples
        faulty = faulty_windows(machine, record, rate, samples, progress) if test else None
        final = with_promise(target, final, windows, faulty, preset, progress)
        drift = _fit_drift(record, machine, windows, final, progress)
        rehearsal = summed_up(
            HealthyScores(final.fitted.healthy_scores, windows.rows),
            final.fitted.threshold, final.fitted.config.clip, machine, preset,
            {*odd, *(one.source for one in final.apart)},
        )  # fmt: skip
        agree = rehearsal.agreement
        draft = draft_manifest(
            record, machine, windows, final, comparison, quantized, drift, encoder.views, agree
        )
        write_files(folder, final, windows, still)
        write_parts(encoder, target, exported, windows.waveforms)
        if drift.baseline is not None:
            save_baseline(drift.baseline, folder / DRIFT)
        _write_spectrum(folder, windows, _heard(machine), exported, progress)
        if sound:
            write_exemplars(folder, windows, final.vectors, _heard(machine), exported.sample_rate)
        if encoder.patch_grid is not None:
            patches = fit_patches(
                target,
                exported,
                encoder.patch_grid,
                windows.waveforms,
                windows.rows,
                _heard(machine),
                progress,
            )
            write_patches(folder, patches)
        beside = final if quantized is None else plain
        promised = {
            **write_parity(folder, final, beside, windows.rows, mean),
            "machine": machine_name or record.machine,
            "counter": int(time.time()) if counter is None else counter,
        }
        manifest = seal(folder, draft.model_copy(update=promised))
        if test:
            plain_folder = None
            if quantized is not None:
                plain_folder = Path(work) / "plain"
                plain_folder.mkdir()
                storage.copy(graph.path, plain_folder / ENCODER)
                write_files(plain_folder, plain, windows, still)
                seal(
                    plain_folder, draft_manifest(record, machine, windows, plain, comparison, None)
                )
            change = compare_tests(folder, plain_folder, machine, record, progress)
            if change is not None:
                comparison = replace(comparison, test=change)
                if quantized:
                    refuse_hmean(change, preset.quantization)
                draft = draft_manifest(
                    record, machine, windows, final, comparison, quantized, drift, encoder.views,
                    agree,
                )  # fmt: skip
                manifest = seal(folder, draft.model_copy(update=promised))
        if key is not None:
            sign_folder(folder, key)
        # What a device does first: nothing takes the bundle's name that it would refuse.
        open_bundle(folder).close()
        user_log().prove(read_manifest(folder).digest)
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
    progress: Progress,
) -> Quantized | None:
    """Write the graph that the bundle will hold; None when it stays float32."""
    bounds = preset.quantization
    result: Quantized | None = None
    if precision == "int8" and bounds.mode == "static":
        chosen = waveforms[spread(len(waveforms), bounds.calibration_windows)]
        result = quantize_static(
            graph, out, chosen, info, min_cosine=bounds.min_cosine, spans=spans, progress=progress
        )
    elif precision == "int8" and bounds.mode == "dynamic":
        result = quantize_weights(graph, out, waveforms)
    if result is not None and result.int8_nodes:
        return result
    storage.copy(graph.path, out)
    return None


def _fit_drift(
    record: RunRecord,
    machine: Machine,
    windows: WindowSet,
    detector: Detector,
    progress: Progress,
) -> FittedDrift:
    task = progress.add_task("drift baseline", total=1)
    fitted = fit_drift(
        detector.vectors,
        windows.rows,
        _heard(machine),
        detector.info,
        record.preset.drift,
        machine=record.machine,
        seed=record.seed,
    )
    progress.advance(task)
    return fitted


def _heard(machine: Machine) -> set[str]:
    """The healthy recordings that sound as the device will hear the machine: not clean ones."""
    heard = machine.of("normal") or machine.of(*HEALTHY)
    return {source_name(machine.root, recording) for recording in heard}


def _write_spectrum(
    folder: Path,
    windows: WindowSet,
    sources: Collection[str],
    info: EncoderInfo,
    progress: Progress,
) -> None:
    """What explanations compare with."""
    heard = [i for i, row in enumerate(windows.rows) if row.source in sources]
    chosen = [heard[i] for i in spread(len(heard), _SPECTRUM_WINDOWS)]
    task = progress.add_task("healthy spectrum", total=len(chosen))
    measured = measure_healthy(
        (windows.waveforms[i] for i in chosen), info.sample_rate, lambda: progress.advance(task)
    )
    np.save(folder / HEALTHY_SPECTRUM, measured.table(), allow_pickle=False)

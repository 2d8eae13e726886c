"""From a trained run to a bundle: encoder graph, memory bank, threshold, all sealed.

The bank is made of what the exported graph gives through the agent's own code, so quantization
moves the bank and the device's embeddings alike.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress

from agent import __version__
from agent.bundle.load import open_bundle
from agent.bundle.manifest import (
    DRIFT,
    ENCODER,
    HEALTHY_SPECTRUM,
    EncoderInfo,
    Manifest,
    Quantization,
    TrainedOn,
)
from agent.bundle.seal import file_record, new_bundle, seal
from agent.bundle.sign import load_private, sign_folder
from agent.capture.files import audio_info
from agent.drift.baseline import save_baseline
from agent.explain.spectrum import measure_healthy
from agent.frames import Matrix
from export import storage
from export.clips import score_tests
from export.compare import (
    Comparison,
    TestChange,
    comparison_table,
    sections_hmean,
    similarity,
    window_ms,
)
from export.detector import Detector, make_detector, still_windows, write_files
from export.drift import FittedDrift, fit_drift
from export.embed import encoder_info
from export.embedding_cache import EmbeddingCache
from export.exemplars import write_exemplars
from export.framed import write_parts
from export.onnx_graph import ExportError, FloatGraph, export_graph, verify_parity
from export.patches import fit_patches, write_patches
from export.quantize import Quantized, quantize_static, quantize_weights, spread
from trainer.encoders.pretrained.catalogue import licence_of
from trainer.learn import HEALTHY
from trainer.preset import Preset, QuantizationConfig
from trainer.progress import progress_bar
from trainer.recordings.model import Machine
from trainer.run import RunRecord, load_run
from trainer.windows import WindowSet, healthy_windows, source_name

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
    """

    manifest: Manifest
    comparison: Comparison


def export_run(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    precision: Literal["int8", "float32"] = "int8",
    test: bool = True,
    console: Console | None = None,
    cache: EmbeddingCache | None = None,
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
        run, out, data=data, precision=precision, test=test, console=console, cache=cache
    ).manifest


def export_bundle(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    precision: Literal["int8", "float32"] = "int8",
    test: bool = True,
    sign: Path | None = None,
    sound: bool = True,
    console: Console | None = None,
    cache: EmbeddingCache | None = None,
) -> Exported:
    """As `export_run`, and give the comparison too.

    Args:
        run: The run folder.
        out: The bundle's folder.
        data: Where the recordings are now.
        precision: `float32` leaves quantization out.
        test: Also score the test set.
        sign: Private key to sign the bundle with, read before the work begins.
        sound: Carry a few healthy windows as sound, to be heard beside an alarm.
        console: Where to tell.
        cache: Where embeddings are kept.

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
            channel=record.channel,
            progress=progress,
        )
        still = still_windows(machine, record, encoder, progress)
        graph = export_graph(encoder, Path(work) / "float.onnx")
        torch_cosine = verify_parity(
            encoder, graph.path, windows.waveforms[spread(len(windows.rows), _PARITY_WINDOWS)]
        )
        info = encoder_info(encoder, "float32", graph.opset).model_copy(
            update={"licence": licence_of(preset.encoder)}
        )
        target = folder / ENCODER
        quantized = _quantize(graph, target, windows.waveforms, info, preset, precision, progress)
        exported = info.model_copy(update={"precision": "int8" if quantized else "float32"})

        unheard = _unheard(record)
        plain = make_detector(
            graph.path, info, windows, still, preset, progress, unheard=unheard, cache=cache
        )
        final = plain
        if quantized is not None:
            final = make_detector(
                target, exported, windows, still, preset, progress, unheard=unheard, cache=cache
            )
        mean, least = similarity(plain.vectors, final.vectors)
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
            _within_cosine(comparison, preset.quantization)

        drift = _fit_drift(record, machine, windows, final, progress)
        draft = _draft(record, machine, windows, final, comparison, quantized, drift)
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
        manifest = seal(folder, draft)
        if test:
            plain_folder = None
            if quantized is not None:
                plain_folder = Path(work) / "plain"
                plain_folder.mkdir()
                storage.copy(graph.path, plain_folder / ENCODER)
                write_files(plain_folder, plain, windows, still)
                seal(plain_folder, _draft(record, machine, windows, plain, comparison, None))
            change = _test(folder, plain_folder, machine, record, progress)
            if change is not None:
                comparison = replace(comparison, test=change)
                if quantized:
                    _within_hmean(change, preset.quantization)
                draft = _draft(record, machine, windows, final, comparison, quantized, drift)
                manifest = seal(folder, draft)
        if key is not None:
            sign_folder(folder, key)
        # What a device does first: nothing takes the bundle's name that it would refuse.
        open_bundle(folder).close()
    console.print(
        comparison_table(
            comparison,
            mode=manifest.quantization.mode,
            int8_nodes=manifest.quantization.int8_nodes,
            float_nodes=manifest.quantization.float_nodes,
        )
    )
    return Exported(manifest, comparison)


def _quantize(
    graph: FloatGraph,
    out: Path,
    waveforms: Matrix,
    info: EncoderInfo,
    preset: Preset,
    precision: Literal["int8", "float32"],
    progress: Progress,
) -> Quantized | None:
    """Write the graph that the bundle will hold; None when it stays float32."""
    bounds = preset.quantization
    result: Quantized | None = None
    if precision == "int8" and bounds.mode == "static":
        chosen = waveforms[spread(len(waveforms), bounds.calibration_windows)]
        result = quantize_static(
            graph, out, chosen, info, min_cosine=bounds.min_cosine, progress=progress
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


def _draft(
    record: RunRecord,
    machine: Machine,
    windows: WindowSet,
    detector: Detector,
    comparison: Comparison,
    quantized: Quantized | None,
    drift: FittedDrift | None = None,
) -> Manifest:
    """The manifest, short of its files."""
    preset = record.preset
    asked = preset.quantization.mode
    notes = list(detector.fitted.notes)
    drift = drift or FittedDrift()
    chosen = "" if record.selection is None else record.selection.note
    notes.extend(note for note in (chosen, detector.gate_note, drift.note) if note)
    notes.extend(
        f"{count} healthy windows were left out: {why}" for why, count in windows.invalid.items()
    )
    learnt = _learnt(record)
    if learnt:
        notes.append(learnt)
    if quantized is not None and quantized.float_nodes:
        notes.append(
            "left in float32 because INT8 turned the embeddings too far: "
            + ", ".join(quantized.float_nodes)
        )
    return Manifest(
        auscult_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        encoder=detector.info,
        window_seconds=detector.info.window_samples / detector.info.sample_rate,
        hop_seconds=preset.window.hop_seconds,
        clip_hop_seconds=preset.window.train_hop_seconds,
        scorer=detector.fitted.config,
        threshold=detector.fitted.threshold,
        trained_on=_trained_on(record, machine, windows),
        quantization=Quantization(
            mode=asked if quantized else "none",
            float_bytes=comparison.float_bytes,
            bytes=comparison.bytes,
            cosine_mean=comparison.cosine_mean,
            cosine_min=comparison.cosine_min,
            torch_cosine_min=comparison.torch_cosine_min,
            int8_nodes=quantized.int8_nodes if quantized else 0,
            float_nodes=len(quantized.float_nodes) if quantized else 0,
            hmean_change=comparison.test.change if comparison.test else None,
        ),
        notes=tuple(notes),
        gate=detector.gate,
        drift=drift.info,
        files={},
    )


def _learnt(record: RunRecord) -> str:
    """What the threshold is worth where it comes from recordings that the network has learnt."""
    kind = record.preset.training.kind
    if kind == "frozen" or _unheard(record):
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


def _unheard(record: RunRecord) -> frozenset[str]:
    """Recordings that an autoencoder has not learnt to restore, when some were held out."""
    if record.preset.training.kind != "reconstruct":
        return frozenset()
    return frozenset(name.removeprefix(f"{record.machine}/") for name in record.held_out)


def _trained_on(record: RunRecord, machine: Machine, windows: WindowSet) -> TrainedOn:
    used = {row.source: row for row in windows.rows}
    digest = hashlib.sha256()
    seconds = 0.0
    for source in sorted(used):
        path = machine.root / source
        digest.update(f"{source}\0{file_record(path).sha256}\n".encode())
        seconds += audio_info(path).seconds
    domains: dict[str, int] = {}
    for _, row in sorted(used.items()):
        domains[row.domain] = domains.get(row.domain, 0) + 1
    power = np.array([np.mean(np.square(window, dtype=np.float64)) for window in windows.waveforms])
    level = np.percentile(10.0 * np.log10(np.maximum(power, 1e-20)), [1.0, 99.0])
    return TrainedOn(
        machine=record.machine,
        preset=record.preset.name,
        seed=record.seed,
        recordings=len(used),
        seconds=round(seconds, 3),
        domains=domains,
        classes=record.classes,
        class_rule=record.class_rule,
        level_dbfs=(round(float(level[0]), 2), round(float(level[1]), 2)),
        data_sha256=digest.hexdigest(),
    )


def _test(
    folder: Path, plain: Path | None, machine: Machine, record: RunRecord, progress: Progress
) -> TestChange | None:
    """Score the test recordings through both bundles; None without a test set of both kinds."""
    labels = {recording.label for recording in machine.of("test")}
    if not {"normal", "anomaly"} <= labels:
        return None
    found = []
    for place in (folder, plain):
        if place is None:
            continue
        task = progress.add_task("scoring the test set", total=len(machine.of("test")))
        bundle = open_bundle(place, threads=2)
        try:
            sections, _ = score_tests(
                bundle,
                machine,
                hop_seconds=record.preset.window.train_hop_seconds,
                channel=record.channel,
                advance=lambda task=task: progress.advance(task),  # type: ignore[misc]
            )
        finally:
            bundle.close()
        result = sections_hmean(sections)
        if result is None:
            return None
        found.append(result)
    return TestChange(float_hmean=found[-1][0], hmean=found[0][0], clips=found[0][1])


_REMEDIES = (
    "Export with --float, or set in the preset's `quantization` another `mode`, more "
    "`calibration_windows`, or a wider `{field}` if you accept the change, and train again."
)


def _within_cosine(comparison: Comparison, bounds: QuantizationConfig) -> None:
    if not comparison.cosine_mean >= bounds.min_cosine:
        raise ExportError(
            f"INT8 turned the embeddings: their mean cosine to float32 is "
            f"{comparison.cosine_mean:.4f}, the preset demands {bounds.min_cosine:g}. "
            "No bundle was written",
            remedy=_REMEDIES.format(field="min_cosine"),
        )


def _within_hmean(change: TestChange, bounds: QuantizationConfig) -> None:
    if -change.change > bounds.max_hmean_drop:
        raise ExportError(
            f"INT8 cost detection: the harmonic mean on the {change.clips} test recordings fell "
            f"from {100 * change.float_hmean:.2f} to {100 * change.hmean:.2f}, the preset allows "
            f"a drop of {100 * bounds.max_hmean_drop:g}. No bundle was written",
            remedy=_REMEDIES.format(field="max_hmean_drop"),
        )

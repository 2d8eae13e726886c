"""Shorter forms of a trained detector, a bundle each, with what each loses and what it costs.

A form has the run's values and its own bank and threshold, learnt through its own graph. What it
loses is measured as it would be used: INT8, with that bank, on the run's test set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress

from agent import __version__
from agent.bundle.manifest import BANK
from agent.bundle.verify import read_manifest
from agent.config.encode import InferenceConfig
from agent.core.errors import AuscultError
from agent.core.progress import progress_bar
from agent.core.storage import write_json
from agent.deploy.load import open_bundle
from agent.encode.embedding_cache import EmbeddingCache
from agent.learn.assemble import Material
from agent.learn.places import spread
from agent.recordings.model import Machine
from agent.tune.device import device_class
from agent.tune.forms import FORMS, FormInfo, FormList
from agent.tune.measure import Cost, Work, measure
from agent.tune.profile import DeviceProfile, reference_ms
from export.bundle import export_bundle
from export.cached_bundle import with_cache
from export.clips import score_tests
from export.compare import similarity
from export.fits import Fit
from export.origin import cutting_of
from trainer.graph.graph_cache import GraphCache
from trainer.graph.onnx_graph import ExportError
from trainer.metrics.auc import auc_scores, harmonic_mean
from trainer.metrics.bootstrap import bootstrap, harmonic_means, interval
from trainer.metrics.files import SectionScores
from trainer.run import RunRecord, load_run, save_run
from trainer.shorter import Form, forms_of, shorten

RUNS = "runs"
# Healthy windows by which heads are told apart.
_HEARD = 32
_ROUNDS = 2
_WINDOWS = 8

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a form may lose.

    Attributes:
        loss: On the test set, percent points of the harmonic mean.
        cosine: Where there is no test set: mean cosine of its embeddings to the full form's.
    """

    loss: float = 1.0
    cosine: float = 0.98


@dataclass(frozen=True, slots=True)
class _Tested:
    hmean: float
    resampled: Floats
    clips: int


@dataclass(frozen=True, slots=True)
class _Made:
    """A form whose bundle is there."""

    form: Form
    info: FormInfo
    tested: _Tested | None = None


def shorten_run(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    bounds: Bounds | None = None,
    profile: DeviceProfile | None = None,
    sign: Path | None = None,
    machine_name: str | None = None,
    console: Console | None = None,
    told: Callable[[FormInfo], None] = lambda _: None,
    cache: EmbeddingCache | None = None,
    graphs: GraphCache | None = None,
) -> FormList:
    """Measure the shorter forms of a run, and choose one.

    Args:
        run: The run folder.
        out: Folder that gets a bundle for each form, `forms.json`, and the forms' runs in `runs`.
        data: Where the recordings are, when not where they were.
        bounds: What may be lost.
        profile: A device's: the largest form that fits it is chosen; without, the cheapest.
        sign: Private key to sign the bundles with.
        machine_name: The machine that the bundles are for; the run's when None.
        console: Where progress is shown.
        told: Told each form as soon as its loss is known.
        cache: Where embeddings are kept.
        graphs: Where graphs are kept.

    Returns:
        What was measured, as written to `forms.json`.

    Raises:
        ConfigError: The run has no transformer, or cannot be read.
        ExportError: Not even the full form can be exported.
    """
    bounds = bounds or Bounds()
    record, encoder = load_run(run)
    candidates = forms_of(record, encoder)
    machine = record.to_machine(data)
    quiet = Console(quiet=True)
    with progress_bar(console or Console(stderr=True)) as progress:
        windows = Material.gather(machine, cutting_of(record, encoder), progress).windows.waveforms
        heard = np.array(windows[spread(len(windows), _HEARD)])
        made: list[_Made] = []
        task = progress.add_task("measuring forms", total=1 + len(candidates))

        def add(form: Form) -> None:
            short, its = (record, encoder) if form.name == "full" else shorten(
                record, encoder, form, heard
            )  # fmt: skip
            folder = out / RUNS / form.name
            save_run(folder, short, its)
            try:
                export_bundle(
                    folder, out / form.name, data=data, sign=sign, machine_name=machine_name,
                    console=quiet, cache=cache, graphs=graphs,
                )  # fmt: skip
            except ExportError as fault:
                if form.name == "full":
                    raise
                made.append(_Made(form, FormInfo(name=form.name, fault=fault.problem)))
            else:
                tested = _test(out / form.name, machine, short, cache)
                made.append(_judged(out, form, made[0] if made else None, tested, bounds))
            told(made[-1].info)
            progress.advance(task)

        for form in (Form(), *candidates):
            add(form)
        together = _together(made)
        progress.update(task, total=1 + len(candidates) + len(together))
        for form in together:
            add(form)
        infos = [one.info for one in _timed(out, made, progress)]
    found = FormList(
        auscult=__version__,
        machine=record.machine,
        preset=record.preset.name,
        processor=device_class(),
        judged_by="cosine" if made[0].tested is None else "test set",
        clips=0 if made[0].tested is None else made[0].tested.clips,
        max_loss=bounds.loss,
        min_cosine=bounds.cosine,
        forms=tuple(infos),
        chosen="",
    )
    found = found.model_copy(update={"chosen": _chosen(found, out, profile).name})
    write_json(out / FORMS, found.model_dump(mode="json"))
    return found


def _test(
    bundle: Path, machine: Machine, record: RunRecord, cache: EmbeddingCache | None
) -> _Tested | None:
    """The areas on the test set, as the bundle judges it; None without one of both kinds."""
    if not {"normal", "anomaly"} <= {recording.label for recording in machine.of("test")}:
        return None
    opened = open_bundle(bundle)
    if cache is not None:
        opened = with_cache(opened, cache)
    try:
        sections = score_tests(
            opened, machine, hop_seconds=record.preset.window.train_hop_seconds,
            channel=record.channel, advance=lambda: None,
        ).sections  # fmt: skip
    finally:
        opened.close()
    return _areas(sections)


def _areas(sections: Sequence[SectionScores]) -> _Tested | None:
    areas: list[float] = []
    resampled: list[Floats] = []
    clips = 0
    for section in sections:
        known = [i for i, label in enumerate(section.labels) if label]
        labels = [section.labels[i] for i in known]
        domains = [section.domains[i] for i in known]
        if len(set(labels)) < 2:
            continue
        areas.extend(auc_scores(labels, domains, section.scores[known]).values())
        # One seed: each form is asked about the same draws of recordings.
        resampled.extend(bootstrap(labels, domains, section.scores[known]).values())
        clips += len(known)
    if not areas:
        return None
    return _Tested(harmonic_mean(areas), harmonic_means(resampled), clips)


def _judged(
    out: Path, form: Form, full: _Made | None, tested: _Tested | None, bounds: Bounds
) -> _Made:
    """What a form loses of the full one."""
    info = FormInfo(name=form.name, within=full is None)
    bank = np.load(out / form.name / BANK, mmap_mode="r")
    whole = np.load(out / "full" / BANK, mmap_mode="r")
    if bank.shape == whole.shape:
        mean, least = similarity(whole, bank)
        info = info.model_copy(update={"cosine_mean": mean, "cosine_min": least})
        if tested is None:
            info = info.model_copy(update={"within": mean >= bounds.cosine})
    if tested is not None:
        before = tested if full is None or full.tested is None else full.tested
        lost = 100 * (before.hmean - tested.hmean)
        low, high = interval(100 * (before.resampled - tested.resampled))
        update = {
            "hmean": tested.hmean, "loss": lost, "loss_low": low, "loss_high": high,
            "within": lost <= bounds.loss,
        }  # fmt: skip
        info = info.model_copy(update=update)
    return _Made(form, info, tested)


def _together(made: Sequence[_Made]) -> list[Form]:
    """Of each means the furthest that loses little enough, two and three of them at once."""
    best: dict[frozenset[str], Form] = {}
    for one in made:
        # They come from the mildest on, but a merge that comes later is milder.
        if one.info.within and one.form.kinds:
            best[one.form.kinds] = one.form
    found: list[Form] = []
    for count in (2, 3):
        for some in combinations(best.values(), count):
            form: Form | None = some[0]
            for other in some[1:]:
                form = None if form is None else form.joined(other)
            if form is not None:
                found.append(form)
    return found


def _timed(out: Path, made: Sequence[_Made], progress: Progress) -> list[_Made]:
    """What each form costs here: in turns, the least of some rounds."""
    here = [one for one in made if not one.info.fault]
    task = progress.add_task("timing forms", total=_ROUNDS * len(here))
    least: dict[str, Cost] = {}
    for _ in range(_ROUNDS):
        for one in here:
            name = one.form.name
            cost = _cost(out / name)
            if name not in least or cost.cpu_ms < least[name].cpu_ms:
                least[name] = cost
            progress.advance(task)
    return [
        replace(one, info=_with_cost(one.info, least[one.form.name])) if one in here else one
        for one in made
    ]


def _cost(bundle: Path) -> Cost:
    hop = read_manifest(bundle).hop_seconds
    return measure(Work(bundle, 1.0 / hop, hop), InferenceConfig(), _WINDOWS)


def _with_cost(info: FormInfo, cost: Cost) -> FormInfo:
    update = {"cpu_ms": cost.cpu_ms, "wall_ms": cost.wall_ms, "memory_mb": cost.memory_mb}
    return info.model_copy(update=update)


def _chosen(found: FormList, out: Path, profile: DeviceProfile | None) -> FormInfo:
    """The largest form that fits the device; without one, and where none fits, the cheapest."""
    able = found.largest_first()
    if profile is None:
        return able[-1]
    times = profile.reference_ms / reference_ms()
    for form in able:
        if not fit_of(form, out, profile, times).faults:
            return form
    return able[-1]


def fit_of(form: FormInfo, out: Path, profile: DeviceProfile, times: float) -> Fit:
    """Whether a form is one for a device.

    Args:
        form: With what it costs here.
        out: Where its bundle is.
        profile: The device's.
        times: How many times slower it is than this machine.

    Raises:
        BundleError: The bundle cannot be read.
    """
    if form.cpu_ms is None or form.wall_ms is None or form.memory_mb is None:
        raise AuscultError(f"the form '{form.name}' was not timed")
    hop = read_manifest(out / form.name).hop_seconds
    cost = Cost(form.wall_ms, form.wall_ms, form.cpu_ms, form.memory_mb)
    return Fit(cost, hop, profile.device, profile.memory_mb, times)

"""Shorter forms of a trained detector, a bundle each, with what each loses and what it costs.

A form has the run's values and its own bank and threshold, learnt through its own graph. What it
loses is measured as it would be used: INT8, with that bank, on the run's test set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from agent import __version__
from agent.bundle.verify import read_manifest
from agent.config.encode import InferenceConfig
from agent.core.errors import ConfigError
from agent.core.progress import progress_bar
from agent.core.storage import write_json
from agent.encode.embedding_cache import EmbeddingCache
from agent.learn.assemble import Material
from agent.learn.places import spread
from agent.tune.device import device_class
from agent.tune.forms import FORMS, FormInfo, FormList
from agent.tune.measure import Cost, Work, measure
from agent.tune.profile import DeviceProfile
from export.bundle import export_bundle
from export.form_loss import Bounds, MadeForm, choose_form, joined_forms, judge_form, measure_form
from export.origin import cutting_of
from trainer.graph.graph_cache import GraphCache
from trainer.graph.onnx_graph import ExportError
from trainer.run import load_run, save_run
from trainer.shorter import Form, asked_forms, forms_of, shorten

RUNS = "runs"
# Healthy windows by which heads are told apart.
_HEARD = 32
_ROUNDS = 2
_WINDOWS = 8


def shorten_run(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    forms: Sequence[str] = (),
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
        forms: Names of the forms to measure beside the full one; all worth it when empty.
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
        ConfigError: The run has no transformer, or not such a form, or cannot be read.
        ExportError: Not even the full form can be exported.
    """
    bounds = bounds or Bounds()
    record, encoder = load_run(run)
    try:
        candidates = asked_forms(record, encoder, forms) if forms else forms_of(record, encoder)
    except ConfigError as fault:
        raise ConfigError(fault.problem, where=f"{run}, {fault.where}", remedy=fault.remedy) from (
            fault
        )
    machine = record.to_machine(data)
    quiet = Console(quiet=True)
    with progress_bar(console or Console(stderr=True)) as progress:
        windows = Material.gather(machine, cutting_of(record, encoder), progress).windows.waveforms
        heard = np.array(windows[spread(len(windows), _HEARD)])
        made: list[MadeForm] = []
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
                made.append(MadeForm(form, FormInfo(name=form.name, fault=fault.problem)))
            else:
                tested = measure_form(out / form.name, machine, short, cache)
                made.append(judge_form(out, form, made[0] if made else None, tested, bounds))
            told(made[-1].info)
            progress.advance(task)

        for form in (Form(), *candidates):
            add(form)
        together = [] if forms else joined_forms(made)
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
    choice = choose_form(found, out, profile)
    found = found.model_copy(
        update={
            "chosen": choice.form.name,
            "device": "" if profile is None else profile.device,
            "too_large": choice.faults,
        }
    )
    write_json(out / FORMS, found.model_dump(mode="json"))
    return found


def _timed(out: Path, made: Sequence[MadeForm], progress: Progress) -> list[MadeForm]:
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

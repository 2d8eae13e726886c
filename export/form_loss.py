"""What a shorter form of a run loses, and which one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.bundle.manifest import BANK
from agent.bundle.verify import read_manifest
from agent.core.errors import AuscultError
from agent.deploy.load import open_bundle
from agent.encode.embedding_cache import EmbeddingCache
from agent.recordings.model import Machine
from agent.tune.forms import FormInfo, FormList
from agent.tune.measure import Cost
from agent.tune.profile import DeviceProfile, reference_ms
from export.cached_bundle import with_cache
from export.clips import score_tests
from export.compare import similarity
from export.fits import Fit
from trainer.metrics.auc import auc_scores, harmonic_mean
from trainer.metrics.bootstrap import bootstrap, harmonic_means, interval
from trainer.metrics.files import SectionScores
from trainer.run import RunRecord
from trainer.shorter import Form

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
class Tested:
    """How a form's bundle does on the test set.

    Attributes:
        hmean: Harmonic mean of the areas, 0 to 1.
        resampled: The same on draws of the recordings, `(draws,)`.
        clips: Recordings.
    """

    hmean: float
    resampled: Floats
    clips: int


@dataclass(frozen=True, slots=True)
class MadeForm:
    """A form whose bundle is there.

    Attributes:
        form: Which.
        info: What is told of it.
        tested: How it does; None without a test set.
    """

    form: Form
    info: FormInfo
    tested: Tested | None = None


def measure_form(
    bundle: Path, machine: Machine, record: RunRecord, cache: EmbeddingCache | None
) -> Tested | None:
    """The areas on the test set, as the bundle judges it; None without one of both kinds.

    Args:
        bundle: The form's.
        machine: With its recordings.
        record: The form's run.
        cache: Where embeddings are kept.

    Raises:
        BundleError: The bundle cannot be opened.
    """
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


def _areas(sections: Sequence[SectionScores]) -> Tested | None:
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
    return Tested(harmonic_mean(areas), harmonic_means(resampled), clips)


def judge_form(
    out: Path, form: Form, full: MadeForm | None, tested: Tested | None, bounds: Bounds
) -> MadeForm:
    """What a form loses of the full one.

    Args:
        out: Folder of the forms' bundles.
        form: Which.
        full: The full form; None where this is it.
        tested: How this one does; None without a test set.
        bounds: What may be lost.
    """
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
    return MadeForm(form, info, tested)


def joined_forms(made: Sequence[MadeForm]) -> list[Form]:
    """Forms by several means at once: of each the furthest that loses little enough.

    Args:
        made: Forms by one means each, from the mildest on.
    """
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


@dataclass(frozen=True, slots=True)
class Choice:
    """The form that is taken.

    Attributes:
        form: Which.
        faults: Why it is too large for the device; empty when it fits, or no device is known.
    """

    form: FormInfo
    faults: tuple[str, ...] = ()


def choose_form(found: FormList, out: Path, profile: DeviceProfile | None) -> Choice:
    """The largest form that fits the device; without one, and where none fits, the cheapest.

    Args:
        found: Forms with their costs here.
        out: Folder of their bundles.
        profile: The device's.
    """
    able = found.largest_first()
    if profile is None:
        return Choice(able[-1])
    times = profile.reference_ms / reference_ms()
    faults: tuple[str, ...] = ()
    for form in able:
        faults = fit_of(form, out, profile, times).faults
        if not faults:
            return Choice(form)
    return Choice(able[-1], faults)


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

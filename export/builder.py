"""Makes the bundles an evaluation scores with: trained once, exported in each precision asked."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from agent import __version__
from agent.bundle.manifest import MANIFEST
from agent.calibrate.fit_cache import FitCache
from agent.encode.embedding_cache import EmbeddingCache
from agent.hygiene.record import HygieneRecord
from agent.recordings.model import Machine
from export.bundle import export_run
from export.results import System, file_name
from trainer.defaults import needed_weights
from trainer.fit.classify import CHECKPOINT
from trainer.graph.graph_cache import GraphCache
from trainer.join import join_runs
from trainer.learn import rescored, train_machine
from trainer.members import recipes
from trainer.preset import Preset
from trainer.run import RUN


@dataclass(frozen=True, slots=True)
class BundleBuilder:
    """Runs and bundles below one folder: `<folder>/<preset>/<machine>/seed_<n>/{run,bundle-*}`.

    Attributes:
        folder: Where they are made.
        weights: Where pre-trained checkpoints are: a folder, or the file itself.
        channel: Channel of multi-channel recordings; None averages.
        reuse: Take up what lies there and was made from the same recordings, preset, seed,
            weights and version. A change of code within a version goes unnoticed, so this is
            for continuing a run that was cut off.
        machines: All machines of the data set, for presets whose classes are of all of them.
        cache: Where the embeddings of frozen encoders are kept; None for nowhere.
        graphs: Where graphs of trained encoders are kept, for machines of the same training; None
            for nowhere.
        frozen: Where graphs of frozen encoders are kept, for all machines; None for nowhere.
        fits: Where fits of scorers are kept; None for nowhere.
        hygiene: What was found of each machine's recordings, by its name: the conditions of
            training, which its bundles hold test recordings against.
    """

    folder: Path
    weights: Path | None = None
    channel: int | None = None
    reuse: bool = False
    machines: Sequence[Machine] = ()
    cache: EmbeddingCache | None = None
    graphs: GraphCache | None = None
    frozen: GraphCache | None = None
    fits: FitCache | None = None
    hygiene: Mapping[str, HygieneRecord] = field(default_factory=dict)
    # What each run made here was learnt from.
    _trained: dict[Path, str] = field(default_factory=dict)

    def place(self, machine: Machine, system: System, seed: int) -> Path:
        """The folder of one training."""
        return self._place(machine, system.preset, seed)

    def _place(self, machine: Machine, preset: Preset, seed: int) -> Path:
        return self.folder / preset.name / file_name(machine.name) / f"seed_{seed}"

    def bundle(self, machine: Machine, system: System, seed: int, progress: Progress) -> Path:
        """Train (once for all precisions) and export.

        Returns:
            The bundle's folder.

        Raises:
            AuscultError: Training or export refuses.
        """
        inputs = self._inputs(machine, system.preset, seed)
        run = self._run(machine, system.preset, seed, progress)
        return self._export(run, self.place(machine, system, seed), system, inputs)

    def take_up(self, machine: Machine, system: System, seed: int) -> None:
        """Let runs that lie there already serve other machines, whose training is the same."""
        for preset in (system.preset, *recipes(system.preset).values()):
            run = self._place(machine, preset, seed) / "run"
            if self.reuse and _made_from(run, RUN, self._inputs(machine, preset, seed)):
                self._trained[run] = self.learning(machine, preset, seed)

    def trainings(self, machine: Machine, preset: Preset, seed: int) -> frozenset[str]:
        """Digests of the trainings behind a run: its own, or those of an ensemble's members."""
        own = recipes(preset).values() if preset.members else (preset,)
        return frozenset(self.learning(machine, recipe, seed) for recipe in own)

    def clear(self, machine: Machine, system: System, seed: int) -> None:
        """Remove runs and bundles of a training, an ensemble's members' among them."""
        for preset in (system.preset, *recipes(system.preset).values()):
            shutil.rmtree(self._place(machine, preset, seed), ignore_errors=True)

    def _run(self, machine: Machine, preset: Preset, seed: int, progress: Progress) -> Path:
        """The run of a preset, trained where it is not there."""
        run = self._place(machine, preset, seed) / "run"
        if run not in self._trained:
            inputs = self._inputs(machine, preset, seed)
            if not (self.reuse and _made_from(run, RUN, inputs)):
                begun = self.reuse and _made_from(run, CHECKPOINT, inputs)
                if not begun:
                    _clear(run)
                _mark(run, inputs)
                self._train(machine, preset, seed, run, progress, resume=begun)
            self._trained[run] = self.learning(machine, preset, seed)
        return run

    def _train(
        self,
        machine: Machine,
        preset: Preset,
        seed: int,
        run: Path,
        progress: Progress,
        *,
        resume: bool,
    ) -> None:
        """Leave a run in `run`; that of a preset with another scorer alone serves as well.

        A training of all machines' classes is that of each of them. Ensembles are joined from the
        runs of their members.
        """
        if preset.members:
            runs = {
                name: self._run(machine, recipe, seed, progress)
                for name, recipe in recipes(preset).items()
            }
            join_runs(preset, runs, run, seed=seed)
            return
        learning = self.learning(machine, preset, seed)
        alike = next((one for one, key in self._trained.items() if key == learning), None)
        if alike is not None:
            rescored(alike, preset, run, machine, self.hygiene.get(machine.name))
            return
        train_machine(
            machine,
            preset,
            run,
            seed=seed,
            weights=self.weights,
            channel=self.channel,
            hygiene=self.hygiene.get(machine.name),
            others=self._others(machine, preset),
            resume=resume,
            progress=progress,
        )

    def _export(self, run: Path, place: Path, system: System, inputs: str) -> Path:
        bundle = place / f"bundle-{system.precision}"
        if not (self.reuse and _made_from(bundle, MANIFEST, inputs)):
            _clear(bundle)
            # Its report is in the manifest; here it would tear the progress display.
            quiet = Console(file=io.StringIO())
            export_run(
                run,
                bundle,
                precision=system.precision,
                test=False,
                console=quiet,
                cache=self.kept(system.preset),
                fits=self.fits if system.preset.training.kind == "frozen" else None,
                graphs=self.frozen if system.preset.training.kind == "frozen" else self.graphs,
            )
            _mark(bundle, inputs)
        return bundle

    def kept(self, preset: Preset) -> EmbeddingCache | None:
        """Where its embeddings are kept: nobody asks again for those of a trained encoder."""
        return self.cache if preset.training.kind == "frozen" else None

    def fingerprint(self, machine: Machine, system: System, seed: int) -> str:
        """Digest of everything that an outcome follows from: recordings by name, size and time."""
        tests = [
            [str(r.path), r.section, r.domain, r.label, _state(r.path)] for r in machine.of("test")
        ]
        facts = [self._inputs(machine, system.preset, seed), system.precision, tests]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _inputs(self, machine: Machine, preset: Preset, seed: int) -> str:
        """Digest of everything a run is made from: the recordings by name, size and time."""
        return self._digest(machine, preset, seed, preset.model_dump(mode="json"))

    def learning(self, machine: Machine, preset: Preset, seed: int) -> str:
        """Digest of what its encoder is learnt from; others may share that training.

        A selection chooses the scorer too, and is shared with nobody.
        """
        recipe = preset.model_dump(mode="json")
        if preset.selection is None:
            recipe = {name: recipe[name] for name in ("encoder", "training", "window", "members")}
        shared = (
            preset.selection is None
            and not preset.members
            and preset.training.kind == "classify"
            and preset.training.classes.machines == "all"
        )
        return self._digest(machine, preset, seed, recipe, shared=shared)

    def _digest(
        self,
        machine: Machine,
        preset: Preset,
        seed: int,
        recipe: dict[str, object],
        *,
        shared: bool = False,
    ) -> str:
        weights = self.weights
        files = [
            weights / name if weights.is_dir() else weights
            for name in needed_weights(preset)
            if weights is not None
        ]
        sources = [machine, *self._others(machine, preset)]
        if shared:
            sources.sort(key=lambda source: source.name)
        facts = [
            __version__,
            recipe,
            seed,
            self.channel,
            [_state(path) for path in files],
            [
                [str(r.path), r.role, r.section, r.domain, r.attributes, _state(r.path)]
                for source in sources
                for r in source.recordings
                if r.role != "test"
            ],
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def _others(self, machine: Machine, preset: Preset) -> list[Machine]:
        """The machines whose recordings are classes beside this one's, or are mixed with its."""
        if not needs_all(preset):
            return []
        return [other for other in self.machines if other.name != machine.name]


def needs_all(preset: Preset) -> bool:
    """Whether a preset's training listens to the data set's other machines too."""
    return preset.training.classes.machines == "all" or preset.selection is not None


def _state(path: Path) -> list[int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]


def _marker(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.inputs")


def _made_from(folder: Path, last: str, inputs: str) -> bool:
    marker = _marker(folder)
    return (folder / last).exists() and marker.is_file() and marker.read_text() == inputs


def _mark(folder: Path, inputs: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _marker(folder).write_text(inputs)


def _clear(folder: Path) -> None:
    _marker(folder).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)

"""Encoder and scorer for one machine: candidates are judged, the preset's own stays unless beaten.

Development scores of one data set do not predict another's, so nothing here looks at a test set. A
candidate replaces what the preset asks for only if it finds made-up faults better on nearly every
resample of the healthy recordings. How far that can be trusted is measured in docs/guide/fusion.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from rich.progress import Progress

from agent.config.scorer import FusionConfig, ScorerConfig
from agent.core.progress import stage
from agent.recordings.model import Machine
from trainer.encoder_config import EncoderConfig
from trainer.encoders.base import Encoder, placed
from trainer.encoders.registry import build_encoder
from trainer.fit.densities import ScikitFitter
from trainer.preset import Preset
from trainer.selection.judge import Judged, Listening, displaceable, judge, listen
from trainer.selection.record import JudgedRecord, SelectionRecord


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        preset: The recipe with the chosen encoder and scorer.
        encoder: The chosen encoder.
        record: All candidates, and why.
    """

    preset: Preset
    encoder: Encoder
    record: SelectionRecord


@dataclass(frozen=True, slots=True)
class _Candidate:
    encoder: EncoderConfig
    scorer: ScorerConfig


def choose(
    machine: Machine,
    preset: Preset,
    own: Encoder,
    *,
    others: Sequence[Machine] = (),
    weights: Path | None = None,
    seed: int = 0,
    channel: int | None = None,
    progress: Progress | None = None,
) -> Choice:
    """Judge the candidates of `preset.selection`, and choose.

    Args:
        machine: Its recordings; only the healthy ones are listened to.
        preset: The recipe, with a `selection`.
        own: The preset's own encoder, trained if the preset trains it.
        others: The data set's other machines, to be mixed in.
        weights: Where pre-trained checkpoints are.
        seed: Seed of encoders, faults and resamples.
        channel: Channel of multi-channel recordings; None averages.
        progress: Where to show progress.

    Raises:
        ConfigError: A candidate's checkpoint is not there, or its features do not exist.
        AudioError: No healthy window could be judged.
    """
    selection = preset.selection
    assert selection is not None
    candidates = _candidates(preset)
    to = Listening(
        machine=machine,
        others=[other for other in others if other.of("normal")],
        hop_seconds=preset.window.train_hop_seconds,
        windows=selection.windows,
        channel=channel,
        seed=seed,
    )
    displacing = all(displaceable(candidate.scorer) for candidate in candidates)
    found: dict[int, Judged] = {}
    heard_windows = 0
    for config in dict.fromkeys(_key(candidate.encoder) for candidate in candidates):
        mine = [i for i, c in enumerate(candidates) if _key(c.encoder) == config]
        encoder = own
        if mine[0] != 0:
            encoder = build_encoder(
                candidates[mine[0]].encoder,
                window_seconds=preset.window.seconds,
                weights=weights,
                seed=seed,
            )
        device = "cuda" if torch.cuda.is_available() else "cpu"
        heard = listen(encoder.eval(), to, progress, device=device)
        heard_windows = len(heard.chosen)
        advance = stage(progress, "judging scorers", len(mine))
        for i in mine:
            scorer = placed(candidates[i].scorer, encoder)
            found[i] = judge(heard, scorer, ScikitFitter(), seed=seed, displacing=displacing)
            advance()
    judged = [found[i] for i in range(len(candidates))]
    chosen, note = _decide(candidates, judged, selection.confidence)
    record = SelectionRecord(
        judged=tuple(
            _record(candidate, figures, judged[0])
            for candidate, figures in zip(candidates, judged, strict=True)
        ),
        chosen=chosen,
        windows=heard_windows,
        note=note,
    )
    taken = candidates[chosen]
    encoder = own
    if _key(taken.encoder) != _key(preset.encoder):
        encoder = build_encoder(
            taken.encoder, window_seconds=preset.window.seconds, weights=weights, seed=seed
        )
    update = {"encoder": taken.encoder, "scorer": placed(taken.scorer, encoder)}
    return Choice(preset.model_copy(update=update), encoder, record)


def describe(config: EncoderConfig | ScorerConfig) -> str:
    """A candidate's encoder or scorer in a few words: its kind, and what is not as usual."""
    said = config.model_dump(mode="json", exclude_defaults=True, exclude={"kind", "weights"})
    return " ".join([config.kind, *(_said(key, value) for key, value in said.items())])


def _said(key: str, value: object) -> str:
    if key == "parts" and isinstance(value, list):
        kinds = [(part.get("scorer") or part).get("kind", "knn") for part in value]
        return f"({', '.join(kinds)})"
    if isinstance(value, list):
        return f"{key} {'+'.join(map(str, value))}"
    return f"{key}" if value is True else f"{value}" if isinstance(value, str) else f"{key} {value}"


def _candidates(preset: Preset) -> list[_Candidate]:
    """The preset's own first, then every pair that makes a valid preset."""
    selection = preset.selection
    assert selection is not None
    found: list[_Candidate] = []
    for encoder in (preset.encoder, *selection.encoders):
        for scorer in (preset.scorer, *selection.scorers):
            candidate = _Candidate(encoder, scorer)
            if candidate not in found and (not found or _fits(preset, candidate)):
                found.append(candidate)
    return found


def _fits(preset: Preset, candidate: _Candidate) -> bool:
    """Whether the two make a preset: a fusion's parts must be the encoder's, for one."""
    scorer = candidate.scorer
    other = candidate.encoder != preset.encoder
    parts = scorer.parts if isinstance(scorer, FusionConfig) else ()
    if other and any(part.columns is not None for part in parts):
        # Columns are counted in the embedding they were written for.
        return False
    data = preset.model_dump(mode="python") | {
        "encoder": candidate.encoder.model_dump(mode="python"),
        "scorer": candidate.scorer.model_dump(mode="python"),
        "selection": None,
    }
    try:
        Preset.model_validate(data)
    except ValidationError:
        return False
    return True


def _key(encoder: EncoderConfig) -> str:
    return encoder.model_dump_json()


def _better(judged: Judged, own: Judged) -> float | None:
    """Share of resamples in which it beats the preset's own; None where nothing was compared."""
    if not np.isfinite(judged.resampled).all() or not np.isfinite(own.resampled).all():
        return None
    return float(np.mean(judged.resampled > own.resampled))


def _decide(
    candidates: Sequence[_Candidate], judged: Sequence[Judged], confidence: float
) -> tuple[int, str]:
    own = judged[0]
    if not np.isfinite(own.figure):
        return 0, "the preset's own is kept: one healthy recording leaves nothing to compare with"
    sure = [i for i, j in enumerate(judged) if (_better(j, own) or 0.0) >= confidence and i > 0]
    if not sure:
        others = [j.figure for j in judged[1:] if np.isfinite(j.figure)]
        best = (
            f" (its figure {own.figure:.3f}, the others' best {max(others):.3f})" if others else ""
        )
        return 0, (
            f"the preset's own is kept: of {len(judged) - 1} candidates none finds made-up faults "
            f"better in {confidence:.0%} of resamples{best}"
        )
    chosen = max(sure, key=lambda i: judged[i].figure)
    return chosen, (
        f"{describe(candidates[chosen].encoder)} with {describe(candidates[chosen].scorer)}, "
        f"chosen among {len(judged)} by healthy sound alone: {judged[chosen].figure:.3f} on "
        f"made-up faults, the preset's own {own.figure:.3f}"
    )


def _record(candidate: _Candidate, judged: Judged, own: Judged) -> JudgedRecord:
    finite = np.isfinite(judged.figure)
    return JudgedRecord(
        name=f"{describe(candidate.encoder)}, {describe(candidate.scorer)}",
        encoder=candidate.encoder,
        scorer=candidate.scorer,
        figure=judged.figure if finite else 0.0,
        kinds=dict(judged.kinds),
        auc_source=judged.auc_source,
        auc_target=judged.auc_target,
        better=None if judged is own else _better(judged, own),
    )

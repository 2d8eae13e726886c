"""What happens to a training window: rolled, distorted, made faster, louder, noisier, mixed.

Everything random about a window follows from the seed, the epoch and the window's place in it
alone. So a resumed training goes on as if it had never stopped, and processes that share a batch
agree without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.fit.config import AugmentSettings
from trainer.fit.perturb import perturb, resample

# Distinguishes the random streams of one epoch.
ORDER, WINDOW, BATCH = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Shown:
    """One window as it is shown.

    Attributes:
        waveform: Float32 `(n,)`.
        kind: Number of the distortion it was given.
        masks: Where SpecAugment hides it, uniform numbers `(masks, 4)`: width and place of a mask
            in time, width and place of one in frequency.
    """

    waveform: Tensor
    kind: int
    masks: Tensor


def random_of(seed: int, epoch: int, stream: int, place: int = 0) -> np.random.Generator:
    """The random numbers of one thing in one epoch; negative epochs are the held-out windows'."""
    return np.random.default_rng([seed & 0xFFFFFFFF, epoch + 1, stream, place])


class Augmenter:
    """Shows windows.

    Args:
        settings: The preset's `training.augment`.
        kinds: Distortions that make classes (`ClassPlan.perturbations`).
        rate: Samples a second.
        noise: Noise-only windows `(m, samples)`; m may be 0.
    """

    def __init__(
        self, settings: AugmentSettings, kinds: Sequence[str], rate: int, noise: Tensor
    ) -> None:
        self.settings, self.kinds, self.rate, self.noise = settings, kinds, rate, noise
        # Where being faster is a class, a changed speed would contradict the label.
        self.speed = settings.speed if len(kinds) == 1 else 0.0

    def kind(self, random: np.random.Generator) -> int:
        """The distortion that `show` would draw first: labels need no waveform."""
        return int(random.integers(len(self.kinds)))

    def show(self, window: Tensor, random: np.random.Generator) -> Shown:
        """A window, rolled (it has no natural beginning) and changed as `random` says."""
        kind = self.kind(random)
        shift = int(random.integers(len(window)))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        window = perturb(torch.roll(window, shift), self.kinds[kind], self.rate, generator)
        asked = self.settings
        if self.speed:
            window = resample(window, math.exp(random.uniform(-1, 1) * math.log1p(self.speed)))
        if asked.noise and random.random() < asked.noise:
            window = self._noisy(window, random)
        if asked.gain_db:
            window = window * 10 ** (random.uniform(-asked.gain_db, asked.gain_db) / 20)
        return Shown(window, kind, torch.from_numpy(random.random((asked.spec_masks, 4))).float())

    def plain(self, window: Tensor, random: np.random.Generator) -> Shown:
        """A held-out window: distorted where distortions are classes, else as it is."""
        kind = self.kind(random)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        changed = perturb(window, self.kinds[kind], self.rate, generator)
        return Shown(changed, kind, torch.zeros(self.settings.spec_masks, 4))

    def _noisy(self, window: Tensor, random: np.random.Generator) -> Tensor:
        if len(self.noise):
            chosen = self.noise[int(random.integers(len(self.noise)))]
            noise = torch.roll(chosen, int(random.integers(len(chosen))))
        else:
            noise = _pink(len(window), random).to(window)
        decibels = random.uniform(*self.settings.noise_snr_db)
        level = window.square().mean().sqrt() / noise.square().mean().sqrt().clamp_min(1e-12)
        noisy: Tensor = window + noise * level * 10 ** (-decibels / 20)
        return noisy


def _pink(samples: int, random: np.random.Generator) -> Tensor:
    """Noise with the same power in every octave."""
    spectrum = torch.fft.rfft(torch.from_numpy(random.standard_normal(samples)))
    tilt = torch.arange(len(spectrum), dtype=torch.float64).clamp(min=1.0).rsqrt()
    noise: Tensor = torch.fft.irfft(spectrum * tilt, n=samples)
    return noise


@dataclass(frozen=True, slots=True)
class Mixture:
    """How a batch is mixed with itself (mixup, Zhang et al. 2018).

    Attributes:
        shares: Share of each window's own sound; 1 where it is not mixed.
        order: Place of each window's partner in the batch.
    """

    shares: tuple[float, ...]
    order: tuple[int, ...]

    @property
    def mixed(self) -> bool:
        """Whether any window is mixed."""
        return any(share < 1.0 for share in self.shares)


def mixture_of(
    size: int, chance: float, alpha: float, random: np.random.Generator, *, each: bool = False
) -> Mixture:
    """Draw a batch's mixture, its shares from Beta(alpha, alpha).

    Args:
        size: Windows of the batch.
        chance: That it is mixed.
        alpha: Of the Beta law; 1 for uniform shares.
        random: Source of all of it.
        each: Every window decides for itself and is mixed with that at the batch's other end;
            else one decision, one share and random partners for the whole batch.
    """
    if each:
        mixed = random.random(size) < chance
        shares = np.where(mixed, random.beta(alpha, alpha, size), 1.0)
        order = np.arange(size)[::-1]
        return Mixture(tuple(map(float, shares)), tuple(map(int, order)))
    together = random.random() < chance
    share = float(random.beta(alpha, alpha)) if together else 1.0
    order = random.permutation(size) if together else np.arange(size)
    return Mixture((share,) * size, tuple(int(place) for place in order))


def mix(shown: Mapping[int, Shown], places: Sequence[int], mixture: Mixture) -> Tensor:
    """The windows at some places of a batch, each mixed with its partner, `(len(places), n)`."""

    def mixed(place: int) -> Tensor:
        own, share = shown[place].waveform, mixture.shares[place]
        if share == 1.0:
            return own
        return share * own + (1 - share) * shown[mixture.order[place]].waveform

    return torch.stack([mixed(place) for place in places])

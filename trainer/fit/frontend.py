"""Between the front end and the network, in training: full precision, and SpecAugment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from trainer.encoders.resample import Resampler
from trainer.fit.config import AugmentSettings


class FrontEnds:
    """Watches an encoder's front ends (submodules named `front_end`).

    Their spectra stay float32 under mixed precision: half precision holds three digits, and a
    quiet band lies more than that below a loud one. So does a change of rate before them. What they
    give is masked while `masks` are set.

    Args:
        encoder: The encoder.
        settings: The preset's `training.augment`.
    """

    def __init__(self, encoder: nn.Module, settings: AugmentSettings) -> None:
        self.settings = settings
        self.masks: Tensor | None = None
        self._found = [
            module
            for name, module in encoder.named_modules(remove_duplicate=True)
            if name.rpartition(".")[2] == "front_end"
        ]
        self._resamplers = [part for part in encoder.modules() if isinstance(part, Resampler)]
        self._contexts: list[torch.autocast] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it, every call of a front end is watched."""
        hooks = []
        for module in self._found:
            hooks.append(module.register_forward_pre_hook(self._before))
            hooks.append(module.register_forward_hook(self._after, always_call=True))
        for module in self._resamplers:
            hooks.append(module.register_forward_pre_hook(self._before))
            hooks.append(module.register_forward_hook(self._leave, always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _before(self, _module: nn.Module, given: tuple[Any, ...]) -> None:
        context = torch.autocast(given[0].device.type, enabled=False)
        context.__enter__()  # type: ignore[no-untyped-call]
        self._contexts.append(context)

    def _leave(self, _module: nn.Module, _given: tuple[Any, ...], _made: Any) -> None:
        self._contexts.pop().__exit__(None, None, None)

    def _after(self, module: nn.Module, given: tuple[Any, ...], made: Any) -> Any:
        self._leave(module, given, made)
        asked = self.settings
        if self.masks is None or made is None or not (asked.spec_time or asked.spec_frequency):
            return made
        last = bool(getattr(module, "frames_last", True))
        if isinstance(made, tuple):  # dual_path: only its spectrogram has both axes
            return (self._masked(made[0], frames_last=last), *made[1:])
        return self._masked(made, frames_last=last)

    def _masked(self, features: Tensor, *, frames_last: bool) -> Tensor:
        assert self.masks is not None
        # An encoder that hears a window piece by piece: a window's pieces come one after another.
        pieces = len(features) // len(self.masks)
        return spec_augment(
            features,
            self.masks.to(features.device).repeat_interleave(pieces, dim=0),
            time=self.settings.spec_time,
            frequency=self.settings.spec_frequency,
            frames_last=frames_last,
        )


def spec_augment(
    features: Tensor, masks: Tensor, *, time: int, frequency: int, frames_last: bool
) -> Tensor:
    """Hide stretches of time and of frequency (SpecAugment, Park et al. 2019).

    What is hidden becomes the window's mean, which is what the paper's zero is after normalising;
    here the features may still be decibels.

    Args:
        features: `(batch, ..., bands, frames)`, or `(batch, ..., frames, bands)`.
        masks: Uniform numbers `(batch, masks, 4)`: width and place in time, in frequency.
        time: Most frames of a mask.
        frequency: Most bands of a mask.
        frames_last: Which of the two last axes is time.
    """
    hidden = torch.zeros_like(features, dtype=torch.bool)
    for axis, most, width, place in (
        (-1 if frames_last else -2, time, masks[..., 0], masks[..., 1]),
        (-2 if frames_last else -1, frequency, masks[..., 2], masks[..., 3]),
    ):
        length = features.shape[axis]
        # Whole numbers from 0 to `most`, and a start that keeps the mask inside.
        size = torch.floor(width * (min(most, length) + 1))
        start = torch.floor(place * (length - size + 1))
        index = torch.arange(length, device=features.device)
        within = (index >= start[..., None]) & (index < (start + size)[..., None])
        covered = within.any(dim=1)
        shape = [1] * features.dim()
        shape[0], shape[axis] = len(features), length
        hidden = hidden | covered.reshape(shape)
    mean = features.mean(dim=tuple(range(1, features.dim())), keepdim=True)
    return torch.where(hidden, mean, features)

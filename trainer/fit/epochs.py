"""Several epochs of one training kept side by side, so that their scores can be averaged.

An encoder that learns a proxy task wavers from epoch to epoch in what it makes of unknown sound.
Kept as parts of a joined encoder, the models of several epochs are judged each by itself, and a
fusion scorer averages what they say.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from agent.core.errors import ConfigError
from trainer.encoders.base import Encoder
from trainer.encoders.joined import Joined


class EpochParts:
    """The parts of a joined encoder, each of which is to hold one epoch's model.

    The last part is the one that is trained; the others take its values when their epoch ends.

    Args:
        encoder: Joined from as many equal parts as there are epochs.
        epochs: After which epochs, counted from 1, ascending; the last is the training's last.

    Raises:
        ConfigError: The parts are not equal, or not as many.
    """

    def __init__(self, encoder: Encoder, epochs: Sequence[int]) -> None:
        parts = list(encoder.parts) if isinstance(encoder, Joined) else []
        shapes = [_shapes(part) for part in parts]
        if len(parts) != len(epochs) or any(shape != shapes[0] for shape in shapes):
            raise ConfigError(
                f"{len(epochs)} epochs are to be kept, and the encoder has not as many equal parts",
                where="training.keep_epochs",
                remedy="Join the same encoder with itself, once for each epoch.",
            )
        self._parts, self._epochs = parts, tuple(epochs)

    @property
    def learner(self) -> Encoder:
        """The part that is trained."""
        last = self._parts[-1]
        if not isinstance(last, Encoder):  # what Joined holds; told to the type checker
            raise TypeError(type(last).__name__)
        return last

    def begin(self) -> None:
        """Give all parts the first one's values, frozen ones among them.

        They were made with seeds of their own; so a training is the same for any number of parts.
        """
        for part in self._parts[1:]:
            part.load_state_dict(self._parts[0].state_dict())

    def ended(self, epoch: int) -> None:
        """Keep the model if the epoch is one of those.

        Args:
            epoch: Epochs that have ended.
        """
        with torch.no_grad():
            for part, kept in zip(self._parts[:-1], self._epochs, strict=False):
                if kept == epoch:
                    part.load_state_dict(self._parts[-1].state_dict())


def _shapes(part: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in part.state_dict().items()}

"""The step between a machine's windows: fixed, or following what is heard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import (
    Field,
    FiniteFloat,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)


def _one_fault(given: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """What is wrong in one sentence, not one for each kind that it isn't."""
    try:
        return check(given)
    except ValidationError as fault:
        raise ValueError("should be seconds above 0, or `auto`") from fault


#: What `hop` takes beside seconds.
AUTO: Final = "auto"
HopSetting: TypeAlias = Annotated[
    Annotated[FiniteFloat, Field(gt=0)] | Literal["auto"], WrapValidator(_one_fault)
]

#: Step of `auto` as soon as anything is heard, seconds.
CLOSE_SECONDS = 1.0
# ...and while all is calm.
_CALM = 5.0


@dataclass(frozen=True, slots=True)
class Hop:
    """Steps between windows.

    Attributes:
        seconds: The closest two windows follow each other, seconds.
        calm: How far apart they are while all is calm, a whole number of these; the same where the
            hop is fixed.
    """

    seconds: float
    calm: float

    @property
    def varies(self) -> bool:
        """Whether it follows what is heard."""
        return self.calm > self.seconds


def hop_of(given: float | Literal["auto"] | None, own: float, window_seconds: float) -> Hop:
    """The steps that a machine's `hop` asks for.

    Args:
        given: As configured; None for the bundle's own.
        own: The bundle's, seconds.
        window_seconds: Length of a window: calm windows leave none of the sound out.
    """
    if given is None:
        return Hop(own, own)
    if given != AUTO:
        return Hop(float(given), float(given))
    close = min(CLOSE_SECONDS, own)
    times = max(1, int(min(_CALM, window_seconds) / close + 1e-6))
    return Hop(close, times * close)

"""Learning of another microphone than in training, while a machine is commissioned."""

from __future__ import annotations

from agent.commission.shadow import Commission
from agent.core.errors import AuscultError
from agent.level.baseline import LevelBaseline
from agent.level.machine import MachineLevel
from agent.level.words import microphone_words

# It is asked so often whether another microphone may be taken off, seconds.
_ASK_SECONDS = 60.0


class MicrophoneLearner:
    """Finds, once in a commissioning, what another microphone does, and has it taken off.

    Args:
        commission: The machine's.
        level: What is taken off its sound.
    """

    def __init__(self, commission: Commission, level: MachineLevel) -> None:
        self._commission = commission
        self._level = level
        self._ask_from = 0.0  # on the monotonic clock of windows

    def learn(self, now: float) -> LevelBaseline | None:
        """What is taken off from now on; None where that is not known yet, or nothing differs.

        Args:
            now: End of the latest window, monotonic seconds.
        """
        commission, level = self._commission, self._level
        if not commission.asks_microphone or now < self._ask_from:
            return None
        if level.apart < commission.microphone_windows:
            return None
        self._ask_from = now + _ASK_SECONDS
        try:
            # What hears nothing in some bands is no fault of the machine.
            if not (commission.may_equalise() or level.hears_too_little()):
                return None
            found = level.take_microphone("commissioning", needed=True)
        except AuscultError as fault:
            commission.microphone_learnt(f"the microphone is taken as it is: {fault.problem}")
            return None
        commission.microphone_learnt(
            "the microphone hears as that of training did"
            if found is None
            else microphone_words(found)
        )
        return found

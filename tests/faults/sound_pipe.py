"""Writes a file of raw samples to standard output for ever, at the pace at which it was recorded.

    python sound_pipe.py FILE QUIET RATE

While the file QUIET exists, the first half second of FILE (healthy sound) is repeated instead.
Standard library alone: it is started as often as the agent is.
"""

import sys
import time
from pathlib import Path

STEP = 0.02  # seconds


def main() -> None:
    data, quiet, rate = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3])
    step = 2 * round(rate * STEP)
    calm = data[: rate // 2 * 2]
    due = time.monotonic()
    # Where a microphone would be, whenever it is opened.
    at = round(due / STEP) * step
    while True:
        sound = calm if quiet.exists() else data
        begin = at % len(sound)
        sys.stdout.buffer.write(sound[begin : begin + step])
        sys.stdout.buffer.flush()
        at += step
        due += STEP
        time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.exit(0)

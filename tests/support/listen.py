"""Listens with several `Microphone`s in a process of its own; prints a JSON line for every block.

    python -m support.listen CARDS_FILE SECONDS '[{"device": ...}, ...]'

CARDS_FILE stands for /proc/asound/cards. Every stream that is opened gets a line too.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from pathlib import Path

import numpy as np

from agent.capture import devices, portaudio
from agent.capture.microphone import Microphone
from agent.config.capture import MicrophoneSource

_lock = threading.Lock()


def tell(**fields) -> None:
    with _lock:
        print(json.dumps({"at": time.time(), **fields}), flush=True)


def listen(number: int, microphone: Microphone) -> None:
    for block in microphone.blocks():
        spectrum = np.abs(np.fft.rfft(block.samples * np.hanning(len(block.samples))))
        tell(
            who=number,
            gap=block.gap_before,
            settling=block.settling,
            seconds=len(block.samples) / block.rate,
            wall=block.wall,
            hertz=float(spectrum.argmax() * block.rate / len(block.samples)),
            level=float(np.sqrt(np.mean(block.samples**2))),
            faults=dict(microphone.faults()),
        )


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    devices.PROC_CARDS = Path(sys.argv[1])
    real = portaudio.open_stream

    def open_stream(device, **wanted):
        stream = real(device, **wanted)
        tell(opened=device.name, channels=stream.channels)
        return stream

    portaudio.open_stream = open_stream
    microphones = [
        Microphone(MicrophoneSource.model_validate(config), 8000)
        for config in json.loads(sys.argv[3])
    ]
    for microphone in microphones:
        microphone.start()
    threads = [
        threading.Thread(target=listen, args=pair, daemon=True) for pair in enumerate(microphones)
    ]
    for thread in threads:
        thread.start()
    time.sleep(float(sys.argv[2]))
    for microphone in microphones:
        microphone.stop()
    for thread in threads:
        thread.join(3)
    tell(alive=sum(thread.is_alive() for thread in threads))


if __name__ == "__main__":
    main()

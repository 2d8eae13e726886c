"""The peer of `agent_cost.py`: what one would write in an afternoon, with the usual libraries.

PyTorch in float32 on one thread, scikit-learn's NearestNeighbors, paho; one encoder for all
machines and a thread for each. It is written to be good at that: no gradients, no copies that
aren't needed, one connection.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import paho.mqtt.client as mqtt
import soundfile
import torch
from sklearn.neighbors import NearestNeighbors

from trainer.encoders.mn04 import Mn04


def listen(
    name: str, file: str, hop_seconds: float, model: Mn04, bank: NearestNeighbors,
    client: mqtt.Client, prefix: str,
) -> None:  # fmt: skip
    """Play a file at real time, for ever, and publish a score each hop."""
    rate, window = model.sample_rate, model.window_samples
    ring, filled, due = np.zeros(window, np.float32), 0, window
    began, played = time.monotonic(), 0
    while True:
        for block in soundfile.blocks(file, rate // 4, dtype="float32"):
            played += len(block)
            time.sleep(max(0.0, began + played / rate - time.monotonic()))
            ring[: -len(block)] = ring[len(block) :]
            ring[-len(block) :] = block
            filled += len(block)
            if filled < due:
                continue
            due += round(hop_seconds * rate)
            with torch.inference_mode():
                vector = model(torch.from_numpy(ring.copy())[None]).numpy()
            far, near = bank.kneighbors(vector)
            score = {"machine": name, "score": float(far[0, 0]), "row": int(near[0, 0])}
            client.publish(f"{prefix}/{name}/score", json.dumps(score))


def main() -> None:
    """Run until it is killed."""
    config = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    model = Mn04(window_seconds=config["window_seconds"], features=config["features"])
    bank = NearestNeighbors(n_neighbors=1, metric="cosine").fit(np.load(config["bank"]))
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
    client.connect(config["host"], config["port"])
    client.loop_start()
    for name, file in config["machines"].items():
        threading.Thread(
            target=listen, daemon=True,
            args=(name, file, config["hop_seconds"], model, bank, client, config["prefix"]),
        ).start()  # fmt: skip
    threading.Event().wait()


if __name__ == "__main__":
    main()

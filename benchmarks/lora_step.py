"""Full-size BEATs with random weights: what a training step with adapters costs.

    python benchmarks/lora_step.py [--batch 4] [--seconds 10] [--steps 3] [--device cpu] [--full]

Prints seconds and peak memory of a frozen forward pass, of a step (forward, backward, AdamW) with
adapters of rank 64 on queries and values, and with --full of a step of every weight; each in a
process of its own, since a peak cannot be taken back. Random weights cost what published ones do.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import time

MODES = ("frozen", "lora", "full")


def measure(mode: str, batch: int, seconds: float, steps: int, device: str, threads: int) -> dict:
    """Median seconds of a step, and the process's (or the device's) peak memory, MiB."""
    import statistics

    import torch

    from trainer.encoder_config import EncoderConfig
    from trainer.encoders.registry import build_encoder
    from trainer.fit.adapters import Tuning, train_mode
    from trainer.fit.config import TrainingConfig
    from trainer.fit.heads import make_head
    from trainer.fit.loop import make_optimizer

    torch.set_num_threads(threads)
    logging.getLogger("trainer").setLevel(logging.ERROR)
    encoder = build_encoder(
        EncoderConfig(kind="beats"), window_seconds=seconds, weights=None, seed=0
    )
    windows = 0.05 * torch.randn(batch, encoder.window_samples)
    targets, shares = torch.randint(20, (batch, 1)), torch.ones(batch, 1)
    config = TrainingConfig(
        kind="classify", tune="lora" if mode == "lora" else "full", optimizer="adamw"
    )
    trained = 0
    if mode != "frozen":
        Tuning(encoder, config).start()
        train_mode(encoder)
        head = make_head(encoder.dim, 20, config).to(device)
        encoder.to(device)
        optimizer = make_optimizer(encoder, head, config)
        trained = sum(p.numel() for p in encoder.parameters() if p.requires_grad)
    encoder.to(device)
    windows, targets, shares = windows.to(device), targets.to(device), shares.to(device)

    def step() -> None:
        if mode == "frozen":
            with torch.inference_mode():
                encoder(windows)
            return
        optimizer.zero_grad(set_to_none=True)
        head(encoder(windows), targets, shares).backward()
        optimizer.step()

    times, spent = [], []
    for _ in range(steps + 1):
        began, used = time.perf_counter(), time.process_time()
        step()
        if device != "cpu":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
        spent.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device != "cpu":
        peak = torch.cuda.max_memory_allocated() / 2**20
    return {
        "mode": mode,
        "seconds": statistics.median(times[1:]),
        # What others on the machine take shows in the one and not in the other.
        "cpu_seconds": statistics.median(spent[1:]),
        "peak_mib": peak,
        "trained": trained,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="Also train every weight.")
    parser.add_argument("--mode", choices=MODES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.mode:
        told = measure(
            given.mode, given.batch, given.seconds, given.steps, given.device, given.threads
        )
        print(json.dumps(told))
        return
    found = {}
    for mode in MODES if given.full else MODES[:2]:
        ended = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--mode", mode],
            check=True,
            capture_output=True,
            text=True,
        )
        found[mode] = json.loads(ended.stdout.splitlines()[-1])
        one, base = found[mode], found["frozen"]
        print(
            f"{mode:7} {one['seconds']:8.2f} s, {one['cpu_seconds']:8.2f} s of processor"
            f" ({one['cpu_seconds'] / base['cpu_seconds']:4.2f} x frozen)"
            f" {one['peak_mib']:8.0f} MiB peak, {one['trained']:,} trained",
            flush=True,
        )


if __name__ == "__main__":
    main()

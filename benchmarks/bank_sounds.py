"""Embeds real recordings, clean and mixed: what benchmarks/large_banks.py fills its banks with.

    .venv/bin/python benchmarks/bank_sounds.py ../shared --out FOLDER [--passes 2]

Every recording below `data` is cut into windows of 1 s, two fifths of a second apart. In the first
pass they are as recorded; in each other one a window of another recording is added, 0 to 20 dB
below it, and the whole made up to 6 dB louder or quieter. mn04's block 12 by bands and its last
convolution (384 values each, each brought to unit length, as the views of a preset are) are the
768 values. A tenth of the recordings is kept apart: their windows are the queries, so that no query
is a row, or a window that overlaps one. groups.npy tells the recording of each row.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from agent.capture.files import read_audio
from trainer.encoders.mn04 import Mn04

_RATE = 32_000
_STEP = 2 * _RATE // 5
_BATCH = 64
_BLOCK12 = 12
_APART = 10
_NAMES = ("*.flac", "*.wav", "*.ogg")


class TwoViews(nn.Module):
    """`(batch, 32000)` to `(batch, 768)`: two of mn04's layers, each at unit length."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.net = Mn04(window_seconds=1.0, features="last")
        self.net.load_published(weights)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        x, bands = self.net.front_end(waveform), None
        for index, layer in enumerate(self.net.features):
            x = layer(x)
            if index == _BLOCK12:
                bands = x.mean(dim=3).flatten(1)
        assert bands is not None
        views = (bands, x.mean(dim=(2, 3)))
        return torch.cat([nn.functional.normalize(view, dim=1) for view in views], dim=1)


def recordings(data: Path) -> list[tuple[Path, np.ndarray]]:
    """Every recording, as 32 kHz float32."""
    paths = sorted(path for name in _NAMES for path in data.rglob(name))
    return [(path, read_audio(path, rate=_RATE)) for path in track(paths, "reading")]


def windows(
    sounds: list[np.ndarray], mixed: bool, random: np.random.Generator
) -> Iterator[np.ndarray]:
    """Windows of all recordings, float32 `(32000,)`."""
    long = [sound for sound in sounds if len(sound) >= _RATE]
    for sound in long:
        for start in range(0, len(sound) - _RATE + 1, _STEP):
            part = sound[start : start + _RATE]
            if mixed:
                other = long[random.integers(len(long))]
                at = random.integers(0, len(other) - _RATE + 1)
                other = other[at : at + _RATE]
                loud = np.sqrt(np.mean(part**2) + 1e-12)
                gain = loud / np.sqrt(np.mean(other**2) + 1e-12) * 10 ** (random.uniform(-1, 0))
                part = (part + gain * other) * 10 ** (random.uniform(-0.3, 0.3))
            yield np.float32(part)


def embed(encoder: TwoViews, found: list[np.ndarray], what: str) -> np.ndarray:
    """Embeddings of windows, float32 `(n, 768)`."""
    parts = []
    for start in track(range(0, len(found), _BATCH), what):
        with torch.inference_mode():
            parts.append(encoder(torch.from_numpy(np.stack(found[start : start + _BATCH]))).numpy())
    return np.concatenate(parts)


def main() -> None:
    """Embed, and write bank.npy and queries.npy."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("shared", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--passes", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    encoder = TwoViews(chosen.shared / "weights" / "mn04_as_mAP_432.pt")
    sounds = recordings(chosen.shared / "data")
    apart = random.random(len(sounds)) < 1 / _APART
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name, kept in (("queries", apart), ("bank", ~apart)):
        some = [sound for (_, sound), here in zip(sounds, kept, strict=True) if here]
        passes = [
            embed(encoder, list(windows(some, number > 0, random)), f"{name}, pass {number + 1}")
            for number in range(chosen.passes)
        ]
        np.save(chosen.out / f"{name}.npy", np.concatenate(passes))
        if name == "bank":
            numbers = [i for i, sound in enumerate(some) for _ in windows([sound], False, random)]
            np.save(chosen.out / "groups.npy", np.tile(numbers, chosen.passes))
        Console().print(f"{name}: {len(some)} recordings, {sum(map(len, passes))} windows")


if __name__ == "__main__":
    main()

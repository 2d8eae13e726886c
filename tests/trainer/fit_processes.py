"""One training, run by test_fit_processes.py in one process and, through torchrun, in two.

An encoder of two branches without batch norms; mixup, FeatEx, an adaptive scale over the whole
batch, SpecAugment, noise, a bounded gradient, parts of a batch and held-out recordings: all that
could differ between processes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from agent.bundle.manifest import Row
from trainer.encoders.base import Encoder
from trainer.fit.classify import FitResult, fit_classifier
from trainer.fit.config import TrainingConfig
from trainer.fit.engine import make_engine

RATE = 4000

CONFIG = {
    "kind": "classify",
    "epochs": 2,
    "batch": 16,
    "accumulate": 2,
    "learning_rate": 1e-3,
    "clip_norm": 1.0,
    "held_out": 0.25,
    "head": "scadacos",
    "subcentres": 3,
    "mixup": 0.7,
    "feature_exchange": 0.5,
    "augment": {"spec_time": 8, "spec_frequency": 8, "noise": 0.5, "gain_db": 3},
}


class _Frames(nn.Module):
    def forward(self, waveform: Tensor) -> Tensor:
        return (waveform.reshape(len(waveform), 1, 50, 80).square() + 1e-6).log().transpose(2, 3)


class TwoBranches(Encoder):
    """A second at 4 kHz by two small networks; one layer is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.kind, self.sample_rate, self.window_samples, self.dim = "two", RATE, RATE, 16
        self.front_end = _Frames()
        self.one = nn.Conv2d(1, 8, 5, stride=4)
        self.other = nn.Sequential(nn.Linear(80, 8), nn.LayerNorm(8))
        self.never = nn.Linear(3, 3)

    def forward(self, waveform: Tensor) -> Tensor:
        return torch.cat(self.branches(waveform), dim=1)

    def branches(self, waveform: Tensor) -> tuple[Tensor, ...]:
        features = self.front_end(waveform)
        return torch.relu(self.one(features)).mean(dim=(2, 3)), self.other(
            features.mean(dim=(1, 3))
        )


def train() -> tuple[Encoder, FitResult, int]:
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    waveforms = torch.tensor(0.1 * random.standard_normal((32, RATE)), dtype=torch.float32)
    rows = [
        Row(source=f"{n}.wav", start=0, group=str(n), attributes={"load": str(n % 4)})
        for n in range(32)
    ]
    torch.manual_seed(0)
    encoder = TwoBranches()
    config = TrainingConfig.model_validate(CONFIG)
    fabric = make_engine(config)
    fabric.launch()
    result = fit_classifier(encoder, waveforms, rows, config, machine="pump", seed=5, fabric=fabric)
    return encoder, result, fabric.global_rank


if __name__ == "__main__":
    trained, made, rank = train()
    place = Path(sys.argv[1])
    save_file(trained.state_dict(), place / f"{rank}.safetensors")
    told = {"losses": made.losses, "held_losses": made.held_losses}
    (place / f"{rank}.json").write_text(json.dumps(told))

"""The reference's tiny models and numbers, for the tests of the pre-trained encoders."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trainer.zoo.backbone import Backbone, load_translation
from trainer.zoo.checkpoints import read_checkpoint
from trainer.zoo.families import FAMILIES
from trainer.zoo.identify import identify

ATOL = 1e-5  # golden/README.txt
FRONT_ATOL = 2e-3
M2D_608 = "m2d/m2d_vit_base-80x608p16x16-tiny_enconly/checkpoint-300.pth"
M2D_1001 = "m2d/m2d_as_vit_base-80x1001p16x16-tiny_AS-FT_enconly/weights_ep69it3124-0.48494.pth"
FILES = {
    "beats": "beats/BEATs_tiny.pt",
    "eat": "eat/EAT_tiny_pretrained_fairseq.pt",
    "m2d": M2D_608,
    "dasheng": "dasheng/dasheng_tiny.pt",
    "muq": "muq/hf/model.safetensors",
}
SIZES = dict.fromkeys(FILES, "tiny") | {"m2d": "tiny_80x608p16x16"}


@dataclass(frozen=True)
class Golden:
    root: Path

    def array(self, name: str) -> torch.Tensor:
        return torch.from_numpy(np.load(self.root / name))

    def layers(self, name: str) -> dict[str, torch.Tensor]:
        with np.load(self.root / name) as stored:
            return {key: torch.from_numpy(stored[key]) for key in stored.files}

    def waveforms(self, which: str = "", family: str = "") -> torch.Tensor:
        folder = "muq" if family == "muq" else "waveforms_16k"
        return self.array(f"{folder}/waveforms{which}.npy")

    def model(self, file: str, samples: int = 160000) -> Backbone:
        """A tiny model with the reference's weights, at full depth."""
        path = self.root / file
        checkpoint = read_checkpoint(path)
        identity = identify(checkpoint)
        backbone = FAMILIES[identity.family.name].build(identity.architecture, samples)
        load_translation(backbone, identity.family.translate(checkpoint.tensors), where=str(path))
        return backbone.eval()


def off(mine: torch.Tensor, reference: torch.Tensor) -> float:
    """Largest difference."""
    assert mine.shape == reference.shape, (mine.shape, reference.shape)
    return float((mine.detach() - reference).abs().max())

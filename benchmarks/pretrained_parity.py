"""How far the pre-trained encoders are from their references, as a table.

    .venv/bin/python benchmarks/pretrained_parity.py [--onnx] [FAMILY ...]

Largest absolute differences from the references' numbers in $AUSCULT_SHARED/golden (tiny models
with seeded weights, in the published layouts), and the full-size models' tensors against the
published files'. `--onnx` exports each as well, and compares it in onnxruntime: float32, and INT8
after static quantization.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from agent.learn.embed import embed
from export.quantize import quantize_static
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, cosines, export_graph
from trainer.zoo.backbone import Backbone, load_translation
from trainer.zoo.checkpoints import read_checkpoint
from trainer.zoo.families import FAMILIES
from trainer.zoo.identify import identify, skeleton
from trainer.zoo.pooling import make_pooling, pool

SHARED = Path(os.environ.get("AUSCULT_SHARED", Path(__file__).parents[2] / "shared"))
GOLDEN = SHARED / "golden"
M2D = "m2d/m2d_{}-tiny{}_enconly/{}"
# Checkpoint, stored embedding, stored hidden states (first units only where there are several).
CASES = {
    "beats": ("beats/BEATs_tiny.pt", "beats/embedding{}", "beats/layer_outputs"),
    "beats fine-tuned": ("beats/BEATs_tiny_finetuned.pt", "beats/finetuned_embedding{}", ""),
    "eat fairseq": (
        "eat/EAT_tiny_pretrained_fairseq.pt",
        "eat/embedding_cls{}",
        "eat/layer_outputs",
    ),
    "eat hf": ("eat/hf/model.safetensors", "eat/embedding_cls{}", "eat/layer_outputs"),
    "m2d 608": (
        M2D.format("vit_base-80x608p16x16", "", "checkpoint-300.pth"),
        "m2d/embedding_608{}",
        "m2d/layer_outputs_608",
    ),
    "m2d 1001": (
        M2D.format("as_vit_base-80x1001p16x16", "_AS-FT", "weights_ep69it3124-0.48494.pth"),
        "m2d/embedding_1001{}",
        "",
    ),
    "dasheng": ("dasheng/dasheng_tiny.pt", "dasheng/embedding{}", "dasheng/layer_outputs"),
    "muq": ("muq/hf/model.safetensors", "muq/embedding{}", "muq/layer_outputs"),
}
FULL = {
    "beats_iter3": ("beats", "base"),
    "beats_iter3_finetuned": ("beats", "base"),
    "eat_base_fairseq": ("eat", "base"),
    "eat_base_hf": ("eat", "base"),
    "eat_large_fairseq": ("eat", "large"),
    "eat_large_hf": ("eat", "large"),
    "m2d_vit_base_80x608p16x16_enconly": ("m2d", "80x608p16x16"),
    "m2d_vit_base_80x1001p16x16_enconly": ("m2d", "80x1001p16x16"),
    "dasheng_base": ("dasheng", "base"),
    "dasheng_06B": ("dasheng", "06b"),
    "dasheng_12B": ("dasheng", "12b"),
    "muq_large": ("muq", "large"),
}


def array(name: str) -> torch.Tensor:
    return torch.from_numpy(np.load(GOLDEN / f"{name}.npy"))


def off(mine: torch.Tensor, reference: torch.Tensor) -> float:
    assert mine.shape == reference.shape
    return float((mine.detach() - reference).abs().max())


def load(file: str) -> Backbone:
    checkpoint = read_checkpoint(GOLDEN / file)
    identity = identify(checkpoint)
    backbone = identity.family.build(identity.architecture, 160000)
    load_translation(backbone, identity.family.translate(checkpoint.tensors), where=file)
    return backbone.eval()


def waveforms(family: str, tail: str = "") -> torch.Tensor:
    return array(f"{'muq' if family == 'muq' else 'waveforms_16k'}/waveforms{tail}")


def embedding(model: Backbone, features: torch.Tensor) -> torch.Tensor:
    return pool(make_pooling(model.pooling, model), model.hidden(features)[-1])


def hidden(model: Backbone, features: torch.Tensor, name: str) -> str:
    """Largest difference of every hidden state of clip 0 (M2D: of both units)."""
    if not name:
        return "-"
    stored = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"{name}.npz").items()}
    family, first = model.family, features[:1]
    if family == "m2d":
        worst = []
        for chunk, unit in enumerate(torch.split(first, 608, dim=2)):
            states = model.tokens(unit)
            states.append(model.norm(states[-1]))
            worst += [off(s, stored[f"chunk{chunk}_hidden_{k}"]) for k, s in enumerate(states)]
        return f"{max(worst):.1e}"
    if family == "muq":
        states = model.tokens(first)
        states[-1] = model.layer_norm(states[-1])
    else:
        states = model.tokens(model.init_bn(first) if family == "dasheng" else first)
    return f"{max(off(s, stored[f'hidden_{k}']) for k, s in enumerate(states)):.1e}"


def row(case: str) -> list[str]:
    file, stored, states = CASES[case]
    model = load(file)
    family = model.family
    features = array(f"{family}/features")
    front = (model.features(waveforms(family)) - features).abs()
    if family == "dasheng":  # the stored clip 1 was limited by the whole batch's maximum
        front = front[[0, 2]]
    one_by_one = "dasheng/embedding_one_by_one" if family == "dasheng" else stored.format("")
    cells = [
        case,
        f"{front[:-1].max():.1e}",
        f"{front[-1].max():.1e} ({front[-1].mean():.0e})",
        hidden(model, features, states),
        f"{off(embedding(model, features), array(stored.format(''))):.1e}",
        f"{off(embedding(model, model.features(waveforms(family))), array(one_by_one)):.1e}",
    ]
    for tail in ("_short", "_long"):
        name = stored.format(tail)
        there = (GOLDEN / f"{name}.npy").exists()
        mine = embedding(model, model.features(waveforms(family, tail)))
        cells.append(f"{off(mine, array(name)):.1e}" if there else "-")
    return cells


def exported(case: str, folder: Path) -> list[str]:
    file = CASES[case][0]
    family = identify(read_checkpoint(GOLDEN / file))
    config = EncoderConfig(kind=family.family.name, size=family.size, weights=Path(file).name)
    encoder = build_encoder(config, window_seconds=10.0, weights=GOLDEN / file, seed=0)
    graph = export_graph(encoder, folder / "float.onnx")
    windows = waveforms(encoder.kind, "_long" if encoder.kind == "muq" else "").numpy()
    with torch.inference_mode():
        mine = encoder(torch.from_numpy(windows)).numpy()
    info = encoder_info(encoder, "float32", OPSET)
    float32 = embed(graph.path, info, windows)
    small = quantize_static(graph, folder / "int8.onnx", windows, info, min_cosine=0.98)
    int8 = embed(small.path, encoder_info(encoder, "int8", OPSET), windows)
    similar = cosines(float32, int8)
    return [
        case,
        f"{np.abs(mine - float32).max():.1e}",
        f"{similar.mean():.4f}",
        f"{similar.min():.4f}",
        f"{small.int8_nodes} ({len(small.float_nodes)} kept in float)",
    ]


def tensors(name: str) -> list[str]:
    family, size = FULL[name]
    listed = json.loads((GOLDEN / f"keys/{name}_keys.json").read_text())["keys"]
    have = {
        key: torch.empty(entry["shape"], device="meta", dtype=getattr(torch, entry["dtype"]))
        for key, entry in listed.items()
    }
    kind = FAMILIES[family]
    want = skeleton(kind, kind.resolve(size)).state_dict()
    found = kind.translate(have)
    shapes = sum(
        want[n].shape != found.tensors[n].shape for n in want.keys() & found.tensors.keys()
    )
    missing = len(want.keys() - found.tensors.keys())
    unexpected = len(found.unexpected) + len(found.tensors.keys() - want.keys())
    counts = (len(have), missing, unexpected, shapes, len(found.ignored))
    return [name, *map(str, counts)]


def show(console: Console, title: str, headings: list[str], rows: list[list[str]]) -> None:
    table = Table(*headings, title=title, title_justify="left")
    for cells in rows:
        table.add_row(*cells)
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", help="beats, eat, m2d, dasheng, muq; default all")
    parser.add_argument("--onnx", action="store_true", help="also export and quantize (minutes)")
    chosen = parser.parse_args()
    torch.set_num_threads(2)
    wanted = chosen.families or list(FAMILIES)
    cases = [case for case in CASES if case.split()[0] in wanted]
    console = Console(width=120)
    with torch.inference_mode():
        show(
            console,
            "Largest difference from the reference",
            [
                "encoder",
                "front end",
                "quiet clip (mean)",
                "hidden states",
                "embedding",
                "from waveform",
                "short",
                "long",
            ],
            [row(case) for case in cases],
        )
    show(
        console,
        "Full size: published tensors",
        ["file", "tensors", "missing", "unexpected", "other shape", "not needed"],
        [tensors(name) for name in FULL if FULL[name][0] in wanted],
    )
    if chosen.onnx:
        with tempfile.TemporaryDirectory() as folder:
            show(
                console,
                "Exported",
                ["encoder", "ONNX - torch", "INT8 cosine, mean", "smallest", "INT8 operations"],
                [exported(case, Path(folder)) for case in cases],
            )


if __name__ == "__main__":
    main()

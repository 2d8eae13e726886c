"""Writes docs/reference/bundle.md from the manifest's schema (`make docs`); `--check` compares."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from agent.bundle.manifest import SCHEMA_VERSION, Manifest, Row
from agent.config.scorer import ScorerConfig
from agent.learn.parity import FLOAT_LIMIT
from tools.configuration import models_of, reference
from tools.pages import write_or_check
from trainer.graph.onnx_graph import OPSET

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "bundle.md"

_FILES = {
    "manifest.json": "What the bundle is: the schema below. Written last; a folder without it "
    "is no bundle.",
    "encoder.onnx": f"ONNX graph, operator set {OPSET}, weights inside: `waveform` float32 "
    "`(batch, window_samples)`, full scale 1.0, to `embedding` float32 `(batch, dim)`. The front "
    "end is part of it.",
    "frames.onnx, body.onnx": "The same graph in two parts, for overlapping windows that share "
    "frames, of an encoder that allows it: a chunk of the waveform to `frames`, whose layout (hop, "
    "head, tail, chunk, count, least) its metadata give; a window's `frames` to `embedding`.",
    "encoder.float.onnx": "Beside an INT8 encoder, the float32 graph it was made of: what a device "
    "whose INT8 gives other answers judges by.",
    "parity.embeddings.npy, parity.scores.npy": "What the encoder gave at export for windows made "
    "up from a seed and for the first healthy ones, and their scores; `parity.float.*.npy` of the "
    "float32 graph.",
    "bank.npy": "Memory bank, float32 `(rows, dim)`: the graph's embeddings of healthy windows.",
    "rows.npy": "k-NN: row constants, float32 `(rows, 2 * bands)`: weight and offset of each "
    "row's distance; of each row of `scorer.vectors.npy` `(m, dim)` where prototypes or made-up "
    "rows are compared with, which stand for the rows in `scorer.origin.npy` `(m, bands)`.",
    "rows.json": "Where each row came from: a list of records, schema below.",
    "bank.index.npy": "Index of a large bank, float32 `(rows, columns)`: its rows cell by cell, "
    "each less the centre of its cell. The cells are `scorer.index_centres.npy` "
    "`(cells, columns)`, where each begins in `scorer.index_starts.npy` `(cells + "
    "1,)` and the bank's row of each place in `scorer.index_rows.npy`; cells "
    "looked at, candidates compared, the recall measured with them and whether "
    "that was enough in `scorer.index_plan.npy`. With `scorer.index_basis.npy` "
    "(dim, columns) beside it, which large banks of 256 columns and more have, it "
    "holds reduced rows: with c its first column and D the others, x prepared, (x "
    "- c) D and then the length of what that leaves of x - c. Small banks have "
    "none. Bundles of before have a `bank.hnsw`, which is not read: the index is "
    "made anew.",
    "bank.<part>.index.npy": "The same for a k-NN part of a fusion, over its columns.",
    "scorer.<name>.npy": "What any other scorer learnt, see Scoring; `scorer.<part>.<name>.npy` "
    "of a fusion's parts, numbered from 0. Arrays of finite numbers; a wrong shape is refused.",
    "gate.npy, gate.json": "Embeddings of idle and noise recordings, float32 `(n, dim)`, and "
    "where each came from, if there are any.",
    "healthy_scores.npy": "Leave-one-recording-out scores of the rows, float32 `(rows,)`; NaN "
    "where there was nothing to compare with.",
    "drift.json": "What the drift monitor compares with (docs/guide/drift.md), if it was fitted: a "
    "reducer and a mixture as decimal numbers.",
    "faults.npy": "Embeddings of the faults whose scores `sight` tells, float32 `(faults, dim)`: "
    "of each planted one the window nearest its median score, then of each recorded one the window "
    "that two thirds of it reach. A grown bank scores them anew. Absent from older bundles.",
    "healthy_sound.flac": "A few healthy windows in a row (FLAC, 16 bits), for people to hear "
    "beside an alarm; nothing is judged by them. Absent with `auscult export --no-sound`.",
    "healthy_sound.json": "Which windows those are (`exemplars`: source, start, where in the file, "
    "seconds), and of each window that the bundle was made from the likest of them (`windows`).",
}

_SCORERS = {
    "mahalanobis": (
        "`mean` (g, d), `whitening` (g, d, d)",
        "smallest over g of the length of W (x - mean), W' W the inverse covariance, of `frames`",
    ),
    "gmm": (
        "a projection, `weights` (k), `means` (k, r), `covariances` (k, r, r) or (k, r)",
        "-log density of z",
    ),
    "density_softmax": (
        "a projection, `means` (c, r), `whitening` (c or 1, r, r), `readings` (2, 2)",
        "total and `spread`, each less its mean over its deviation (`readings`), added",
    ),
    "ocsvm": (
        "a projection, `vectors` (s, r), `coefficients` (s), `boundary` (rho, gamma)",
        "log rho - log of the sum of coefficients times exp(-gamma |z - vector|^2)".replace(
            "|", "\\|"
        ),
    ),
    "dtmm": (
        "`center`, `scale` (d), `axes` (p, d), `logits` (k), `means`, `log_scales` (k, p), `dof`",
        "nats between the healthy mixture and what the `frames` of x make of it (agent/drift)",
    ),
    "mcv": ("`center` (d), `radius` (1)", "(1 - cos(x, center)) / 2 / radius"),
    "value": ("none", "the `column` of x"),
    "fusion": (
        "those of its parts, and `<part>.healthy` (n), the part's left-out healthy scores",
        "of the parts' scores, see `normalize` and `combine`",
    ),
}

# A new scorer is refused here until its arrays are told of; k-NN has its own words below.
_KINDS = [get_args(model.model_fields["kind"].annotation)[0] for model in models_of(ScorerConfig)]

_SCORER_ROWS = "\n".join(
    f"| `{kind}` | {' | '.join(_SCORERS[kind])} |" for kind in _KINDS if kind != "knn"
)

_HEAD = f"""\
# Format of a bundle

A bundle is a flat folder that `auscult export RUN --out BUNDLE` writes and the agent opens. It
holds everything a device needs to judge sound as the workstation did, and nothing that is executed
or unpickled. This is schema version {SCHEMA_VERSION}.

| File | Content |
| --- | --- |
{chr(10).join(f"| `{name}` | {text} |" for name, text in _FILES.items())}

## Scoring

`scorer.kind` says how x, the embedding of a window, becomes a score (docs/reference/scoring.md has
the methods, this is what is computed from which file).

`knn`, with y<sub>i</sub> row i of `bank.npy`, its constants in `rows.npy`, and d the distance
((1 - cos) / 2, or euclidean):

    score(x) = mean of the k smallest over i of  d(x, y_i) * weight_i - offset_i

The others need no bank to score; it stays for the idle gate, for explanations and for growth.

| kind | files `scorer.<name>.npy` | score |
| --- | --- | --- |
{_SCORER_ROWS}

A projection is `center` (d), `scale` (r), and, where directions were chosen, `basis` (d, r) and
`rest` (2): z = (x - center) basis / scale, and the length of what that leaves over, less `rest[0]`,
over `rest[1]`, at least -1, as one number more.

A window is anomalous above `threshold.value`. A recording's score is the mean (or maximum,
`scorer.clip`) of its windows' and is held against `threshold.clip_value`.

## Integrity

The agent checks the length and SHA-256 of every listed file before it loads any, and refuses a
bundle with one changed byte, a missing file, or a newer schema version. Files that the manifest
does not list are ignored. This guards against damage, not against someone who can rewrite the
manifest.

A bundle is written into a hidden folder beside its place, forced to the disk, and then takes its
name. On Linux that is one step: at that name there is always a whole bundle, the old or the new.
(File systems that cannot swap two names have an instant with neither.) Exporting a run twice gives
the same bytes but for `created`.

## Parity

Whoever opens a bundle (the agent, also for the trial of a swap; `doctor`, `score`, `bank`,
`evaluate`) first holds it to the answers it gave where it was exported: three windows made up from
`parity.seed` by integer arithmetic (noise, a hum, clicks; the same to the last bit everywhere,
proved by `parity.made_up_sha256`), and the first `parity.healthy` windows of `healthy_sound.flac`,
where it carries sound. `parity.graphs` names for each graph the files of embeddings and scores, and
the bounds: the least cosine of an embedding, view by view, and the greatest difference of a score,
as a share of the way from the healthy median to the threshold. INT8 may differ by a quarter of what
INT8 itself turned embeddings by, float32 by 0.0005 in cosine; scores by a twentieth, or by a
quarter of what INT8 moved them by, where that is more.

- Within the bound: nothing is said; `auscult doctor` tells the least cosine.
- `frames.onnx` and `body.onnx` beyond it: overlapping windows share no frames, with a warning.
- `encoder.onnx` beyond it: `encoder.float.onnx` judges instead, if that gives its own answers;
  warned of in the log, as a finding of `doctor`, and as one event `auscult.bundle.refused`. Bank
  and threshold stay those of INT8: expect scores a little higher (docs/notes/speed.md).
- Otherwise the bundle is refused, and the agent judges by the last good one.

The float32 graph is carried up to {FLOAT_LIMIT // 2**20} MB; a larger encoder is refused there. A
version grown by `auscult bank` keeps the embeddings, which its graphs must still give, and has the
scores of its own bank. Bundles of schema version 1 and 2 are not checked.

## INT8

Weights are int8 of seven bits (symmetric, a scale for each channel), activations uint8 with ranges
at the 99.99th percentile of healthy windows, in ONNX's QuantizeLinear / DequantizeLinear form. The
front end stays float32. If embeddings turn too far from the float graph's, the operations that hurt
most go back to float32 one by one until they do not; `quantization.float_nodes` counts them and
`notes` names them. Export refuses a bundle beyond the preset's `quantization.min_cosine` or
`max_hmean_drop`.

Mode `dynamic` quantizes matrix products only and finds activation ranges anew for every input.

No weight is above 64, so that INT8 gives the same on every processor: x86 processors without VNNI
add two products of an activation and a weight in 16 bits, which 2 x 255 x 64 fits and 2 x 255 x 127
does not. Export refuses a graph with a larger one. What it costs is in docs/notes/speed.md.

TensorRT takes only activations without a zero point: give it a `--float` bundle.

This page is generated from the schema by `make docs`; change the descriptions there.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, reference(Manifest, "manifest.json"), reference(Row, "rows.json")])


def main() -> None:
    """Write the page, or with `--check` tell whether it is stale."""
    write_or_check({PAGE: page()})


if __name__ == "__main__":
    main()

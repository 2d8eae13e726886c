"""The bundle's manifest: everything a device must know to judge sound as the workstation did.

A bundle is a folder. `manifest.json` describes it and lists every other file with its length and
SHA-256; nothing in it is ever unpickled.

    manifest.json       this schema
    encoder.onnx        waveform (batch, window_samples) float32 -> embedding (batch, dim) float32
    frames.onnx         the graph in two parts, for overlapping windows that share frames, if the
    body.onnx           encoder allows it (agent/encode/frames.py)
    encoder.onnx.data   its weights, when they are above 2 GB
    bank.npy            memory bank, float32 (rows, dim), embeddings of healthy windows
    rows.npy            k-NN: row constants, float32 (rows, 2): weight and offset of each distance
    bank.index.npy      k-NN: index of a large bank (agent/score/index.py), float32 (rows, columns)
    scorer.index_*.npy  its cells, how it is asked, and centre and directions of reduced rows
    scorer.<name>.npy   what any other scorer learnt; scorer.<part>.<name>.npy,
                        bank.<part>.index.npy those of a fusion's parts
    rows.json           one record per row: source file, start, domain, attributes
    healthy_scores.npy  leave-one-recording-out scores of the healthy windows, float32 (rows,)
    gate.npy            embeddings of idle and noise recordings, float32 (n, dim), if there are any
    gate.json           one record per row of it, as in rows.json
    drift.json          the drift monitor's baseline (agent/drift/baseline.py), if it was fitted
    healthy_spectrum.npy  levels of healthy sound by band, which explanations compare with, float32
                        (bands, 8), columns in agent/explain/spectrum.py; not in older bundles
    still_frames.npy    half seconds of the idle machine, running_frames.npy of the healthy one, as
                        band levels (agent/activity/levels.py): where runs begin and end
    patch_*.npy         patches of healthy sound as the encoder sees them, where it has patches:
                        bank, basis and rows of agent/explain/patches.py
    encoder.float.onnx  beside an INT8 encoder, the float32 graph that it was made of
    parity.*.npy        embeddings and scores that the graphs must give on every device
                        (agent/deploy/parity.py)
    faults.npy          embeddings of the faults that `sight` tells the scores of, float32 (faults,
                        dim), planted ones before recorded ones; not in older bundles
    manifest.sig        Ed25519 signature of manifest.json, when it was exported with --sign
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import Field

from agent.bundle.facts import (
    AgreementInfo,
    BankVersion,
    ConditionsInfo,
    IndexInfo,
    LevelInfo,
    ParityInfo,
    ProcessorInfo,
    ScaleInfo,
    SightInfo,
    ViewInfo,
)
from agent.bundle.report import ReportInfo
from agent.config.scorer import ScorerConfig
from agent.config.threshold import ThresholdRule
from agent.core.schema import Strict, spelt

SCHEMA_VERSION = 3
MANIFEST = "manifest.json"
ENCODER = "encoder.onnx"
ENCODER_DATA = "encoder.onnx.data"
FLOAT_ENCODER = "encoder.float.onnx"
FRAMES = "frames.onnx"
BODY = "body.onnx"
BANK = "bank.npy"
ROW_CONSTANTS = "rows.npy"
INDEX = "bank.index.npy"
# Of a bundle of before: another library's, never read; the index is made anew from the bank.
INDEX_BEFORE = "bank.hnsw"
ROWS = "rows.json"
HEALTHY_SCORES = "healthy_scores.npy"
GATE = "gate.npy"
GATE_ROWS = "gate.json"
# Half seconds of the standing and of the running machine, as band levels.
STILL_FILES = ("still_frames.npy", "running_frames.npy")
DRIFT = "drift.json"
HEALTHY_SPECTRUM = "healthy_spectrum.npy"
# Bank, basis, and what is known of each row of frequencies.
PATCH_FILES = ("patch_bank.npy", "patch_basis.npy", "patch_rows.npy")
# A few healthy windows to listen to, and which they are.
HEALTHY_SOUND = "healthy_sound.flac"
HEALTHY_SOUND_INDEX = "healthy_sound.json"
# Of parity windows: what the exported graph gives, and what its float form gives.
PARITY_FILES = ("parity.embeddings.npy", "parity.scores.npy")
FLOAT_PARITY_FILES = ("parity.float.embeddings.npy", "parity.float.scores.npy")
# Embeddings of the faults that `sight` tells the scores of, planted ones before recorded ones.
FAULTS = "faults.npy"
SIGNATURE = "manifest.sig"


class FileRecord(Strict):
    """Identity of one file of the bundle."""

    sha256: Annotated[
        str,
        Field(
            pattern=spelt(r"^[0-9a-f]{64}$", "64 of the characters 0 to 9 and a to f"),
            description="SHA-256 of the bytes",
        ),
    ]
    size: Annotated[int, Field(ge=0, description="Length, bytes")]


class EncoderInfo(Strict):
    """The ONNX graph and what it expects."""

    kind: Annotated[str, Field(description="Encoder family, as in the preset (mn04, dual_path...)")]
    sample_rate: Annotated[int, Field(gt=0, description="Rate of the waveform it takes, Hz")]
    window_samples: Annotated[int, Field(gt=0, description="Waveform length it takes, samples")]
    dim: Annotated[int, Field(gt=0, description="Length of the embedding it gives")]
    precision: Annotated[
        Literal["int8", "float32"], Field(description="Arithmetic of the exported graph")
    ]
    opset: Annotated[int, Field(gt=0, description="ONNX operator set the graph needs")]
    licence: Annotated[
        str,
        Field(description="Terms of the published weights it started from; empty without any"),
    ] = ""


class Threshold(Strict):
    """Where healthy ends, and how that was found."""

    value: Annotated[float, Field(description="A window scoring above this counts as anomalous")]
    false_alarm_rate: Annotated[
        float, Field(gt=0, lt=1, description="Share of healthy windows expected above it")
    ]
    clip_value: Annotated[
        float, Field(description="The same for whole recordings (score, evaluate), score of a clip")
    ]
    clip_limits: Annotated[
        tuple[tuple[int, float], ...],
        Field(
            description="The same for recordings of so many windows, ascending; between two by the "
            "logarithm of the number. Empty in older bundles: `clip_value` for all"
        ),
    ] = ()
    method: Annotated[str, Field(description="How it was calibrated, in words")]
    healthy_windows: Annotated[int, Field(ge=0, description="Healthy windows it was calibrated on")]
    healthy_recordings: Annotated[
        int, Field(ge=0, description="Independent recordings those windows came from")
    ]
    caveat: Annotated[
        str, Field(description="Why not to rely on the rate, when there is reason; else empty")
    ] = ""
    rule: Annotated[
        ThresholdRule | None,
        Field(
            description="What was asked for, by which a grown bank is calibrated again; null in "
            "bundles of schema version 1"
        ),
    ] = None


class Gate(Strict):
    """When a window counts as idle: by its distance to idle and noise recordings."""

    margin: Annotated[
        float,
        Field(
            ge=0,
            description="A window is idle when log(distance to the healthy bank / distance to the "
            "gate's) is above this...",
        ),
    ]
    reach: Annotated[
        float, Field(ge=0, description="...and its distance to the gate's rows is at most this")
    ]
    rows: Annotated[int, Field(ge=2, description="Rows of `gate.npy`")]
    recordings: Annotated[int, Field(ge=2, description="Recordings they came from")]
    healthy_as_idle: Annotated[
        float, Field(ge=0, le=1, description="Share of healthy windows that it calls idle")
    ]
    idle_as_idle: Annotated[
        float, Field(ge=0, le=1, description="Share of idle and noise windows that it calls idle")
    ]


class DriftInfo(Strict):
    """The drift monitor's baseline in `drift.json`, in short."""

    components: Annotated[int, Field(ge=1, description="Components of the healthy mixture")]
    dims: Annotated[int, Field(ge=1, description="Dimensions that the embedding is reduced to")]
    block: Annotated[int, Field(ge=2, description="Windows that are compared with it at a time")]
    step_seconds: Annotated[
        float, Field(gt=0, description="Step between the windows that it takes, seconds")
    ]
    threshold: Annotated[
        float, Field(gt=0, description="A block further than this has drifted, nats")
    ]
    windows: Annotated[int, Field(ge=1, description="Healthy windows it was fitted to")]
    recordings: Annotated[int, Field(ge=1, description="Recordings they came from")]
    caveat: Annotated[
        str, Field(description="Why not to rely on its warnings, when there is reason; else empty")
    ] = ""


class TrainedOn(Strict):
    """Where the bundle's idea of healthy comes from."""

    machine: Annotated[str, Field(description="Machine (type) the detector was trained for")]
    preset: Annotated[str, Field(description="Preset it was trained with")]
    seed: Annotated[int, Field(description="Random seed of the training")]
    recordings: Annotated[int, Field(ge=0, description="Healthy recordings used")]
    seconds: Annotated[float, Field(ge=0, description="Their total length, seconds")]
    domains: Annotated[
        dict[str, int], Field(description="Healthy recordings a domain (source, target, unknown)")
    ]
    classes: Annotated[
        int, Field(ge=0, description="Classes the encoder was trained to tell apart; 0 when frozen")
    ] = 0
    class_rule: Annotated[str, Field(description="What those classes were, in words")] = ""
    level_dbfs: Annotated[
        tuple[float, float],
        Field(description="1st and 99th percentile of the healthy windows' RMS level, dBFS"),
    ]
    data_sha256: Annotated[
        str,
        Field(description="SHA-256 over the recordings' names and digests, sorted"),
    ]


class Quantization(Strict):
    """What INT8 changed, measured at export."""

    mode: Annotated[Literal["static", "dynamic", "none"], Field(description="Quantization used")]
    float_bytes: Annotated[int, Field(ge=0, description="Size of the float32 graph, bytes")]
    bytes: Annotated[int, Field(ge=0, description="Size of the exported graph, bytes")]
    cosine_mean: Annotated[
        float, Field(description="Mean cosine similarity of exported to float32 embeddings")
    ]
    cosine_min: Annotated[float, Field(description="The smallest of those similarities")]
    torch_cosine_min: Annotated[
        float, Field(description="Smallest cosine similarity of the float32 graph to torch")
    ]
    int8_nodes: Annotated[
        int, Field(ge=0, description="Convolutions and matrix products computed in INT8")
    ] = 0
    float_nodes: Annotated[
        int,
        Field(
            ge=0,
            description="Those left in float32 to keep the embeddings' direction, "
            "the front end's not counted",
        ),
    ] = 0
    hmean_change: Annotated[
        float | None,
        Field(description="Test harmonic mean, exported minus float32; null untested"),
    ] = None


class Manifest(Strict):
    """`manifest.json`."""

    schema_version: Annotated[int, Field(description="Version of this schema")] = SCHEMA_VERSION
    auscult_version: Annotated[str, Field(description="auscult that wrote the bundle")]
    created: Annotated[str, Field(description="When it was written, ISO 8601 UTC")]
    encoder: EncoderInfo
    window_seconds: Annotated[float, Field(gt=0, description="Length of a window, seconds")]
    hop_seconds: Annotated[float, Field(gt=0, description="Default step between windows, seconds")]
    clip_hop_seconds: Annotated[
        float,
        Field(gt=0, description="Step between the windows of a whole recording, seconds"),
    ]
    clip_seconds: Annotated[
        float | None,
        Field(
            gt=0,
            description="Of a whole recording only so much from its beginning is scored, seconds; "
            "null for all of it",
        ),
    ] = None
    scorer: ScorerConfig
    threshold: Threshold
    trained_on: TrainedOn
    quantization: Quantization
    notes: Annotated[
        tuple[str, ...], Field(description="Warnings raised in training and export, for people")
    ] = ()
    gate: Annotated[
        Gate | None,
        Field(description="Tells an idle machine; null without idle or noise recordings"),
    ] = None
    still: Annotated[
        Gate | None,
        Field(
            description="The same for half a second, by band levels (rows are half seconds); null "
            "where those are too alike, and in older bundles"
        ),
    ] = None
    drift: Annotated[
        DriftInfo | None,
        Field(description="What drift is measured from; null without a drift baseline"),
    ] = None
    growth: Annotated[
        BankVersion | None,
        Field(description="How its bank was changed since export; null as exported"),
    ] = None
    views: Annotated[
        tuple[ViewInfo, ...], Field(description="Views that the embedding is joined of, if told")
    ] = ()
    float_encoder: Annotated[
        str | None,
        Field(
            description="File of the float32 graph beside an INT8 encoder, used where INT8 gives "
            "other answers; null when the encoder is float32 itself, or that was left out"
        ),
    ] = None
    parity: Annotated[
        ParityInfo | None,
        Field(description="Answers that every device must give; null in older bundles"),
    ] = None
    processor: Annotated[
        ProcessorInfo | None,
        Field(description="What it was exported on; null in older bundles"),
    ] = None
    level: Annotated[
        LevelInfo | None, Field(description="How loud healthy is; null in older bundles")
    ] = None
    scale: Annotated[
        ScaleInfo | None,
        Field(description="Where scores lie on the scale shown to people; null in older bundles"),
    ] = None
    sight: Annotated[
        SightInfo | None,
        Field(description="Its promise and what faults score; null in older bundles"),
    ] = None
    conditions: Annotated[
        ConditionsInfo | None,
        Field(description="How the training recordings were made; null in older bundles"),
    ] = None
    agreement: Annotated[
        AgreementInfo | None,
        Field(description="How far its healthy recordings agree; null in older bundles"),
    ] = None
    report: Annotated[
        ReportInfo | None,
        Field(description="The published report its preset follows; null when none"),
    ] = None
    machine: Annotated[
        str,
        Field(
            max_length=200,
            description="The machine that it is for: a device that took up another machine's "
            "refuses it. `trained_on.machine` when empty, as in older bundles",
        ),
    ] = ""
    counter: Annotated[
        int,
        Field(
            ge=0,
            description="Counts a machine's bundles up, so that a device can refuse an older one: "
            "seconds since 1970 at export, or `--counter`; 0 when not counted, in older bundles",
        ),
    ] = 0
    indexes: Annotated[
        dict[str, IndexInfo],
        Field(
            description="How large banks are indexed, by the index's file; empty of small banks, "
            "whose rows are all compared, and in older bundles"
        ),
    ] = {}
    files: Annotated[
        dict[str, FileRecord], Field(description="Every other file of the bundle, by name")
    ]
    digest: Annotated[
        str, Field(description="SHA-256 of this manifest without this field, see `digest_of`")
    ] = ""


def digest_of(data: dict[str, Any]) -> str:
    """SHA-256 of a manifest's content, as read from or written to JSON.

    The other files' digests stand in the manifest; this one guards the manifest itself, whose
    thresholds matter as much as any weight.

    Args:
        data: The manifest as plain JSON values; its `digest` is left out of account.
    """
    rest = {name: value for name, value in data.items() if name != "digest"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class Row(Strict):
    """Where one row of the memory bank came from (`rows.json`)."""

    source: Annotated[str, Field(description="Recording, relative to the data folder")]
    start: Annotated[float, Field(ge=0, description="Start of the window in it, seconds")]
    group: Annotated[
        str, Field(description="Rows of one group are never each other's neighbour in calibration")
    ]
    domain: Annotated[str, Field(description="source, target or unknown")] = "unknown"
    section: Annotated[str, Field(description="DCASE section; empty when there is none")] = ""
    attributes: Annotated[dict[str, str], Field(description="Operating conditions")] = {}
    session: Annotated[
        str,
        Field(
            description="When the session began that its recording is of (2026-03-02T23:42), by "
            "the recordings' names; empty where they do not tell, and in older bundles"
        ),
    ] = ""

"""What a manifest says beyond graph and threshold: views, parity, processor, level, scale, origin.

All of these may be absent, and all but `BankVersion` came with schema version 3.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.config.decide import FalseAlarms
from agent.core.schema import Strict, spelt

_FILE = spelt(r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", "the name of a file in the bundle's folder")


class ViewInfo(Strict):
    """Columns of the embedding that are one view of the sound."""

    name: Annotated[str, Field(min_length=1, description="Its name, as in the preset")]
    start: Annotated[int, Field(ge=0, description="Its first column")]
    stop: Annotated[int, Field(ge=1, description="The column after its last")]
    level: Annotated[
        bool,
        Field(
            description="Whether these columns all rise by g when the waveform's gain rises by "
            "g dB: a view with level, in dB"
        ),
    ] = False
    low_hz: Annotated[
        float | None, Field(ge=0, description="Lowest frequency it hears, Hz; null when not known")
    ] = None
    high_hz: Annotated[
        float | None, Field(gt=0, description="Highest frequency it hears, Hz; null when not known")
    ] = None


class ParityGraph(Strict):
    """What one graph must give for the parity windows, and how far off it may be."""

    graph: Annotated[str, Field(pattern=_FILE, description="The graph's file")]
    embeddings: Annotated[
        str,
        Field(
            pattern=_FILE,
            description="File of the embeddings it gave at export, float32 `(n, dim)`: the made-up "
            "windows first, then the healthy ones",
        ),
    ]
    scores: Annotated[
        str,
        Field(
            pattern=_FILE,
            description="File of the scores of those embeddings by this bundle's scorer, "
            "float32 `(n,)`",
        ),
    ]
    cosine: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Least cosine similarity of a device's embedding to it, by views",
        ),
    ]
    score: Annotated[
        float,
        Field(
            gt=0,
            description="Greatest difference of a device's score, as a share of `parity.span` or, "
            "where that is more, of the score's own height above `parity.median`",
        ),
    ]
    reason: Annotated[str, Field(description="Why these bounds, in words")] = ""


class ParityInfo(Strict):
    """Windows with the answers that every device must give, checked whenever it is opened."""

    seed: Annotated[int, Field(ge=0, description="Seed of the made-up windows")]
    made_up: Annotated[
        int, Field(ge=1, le=16, description="Windows that the device makes up from that seed")
    ]
    made_up_sha256: Annotated[
        str,
        Field(
            pattern=spelt(r"^[0-9a-f]{64}$", "64 of the characters 0 to 9 and a to f"),
            description="SHA-256 of those windows as int16, little-endian",
        ),
    ]
    healthy: Annotated[
        int,
        Field(
            ge=0,
            le=16,
            description="Windows of its own healthy sound: the first in `healthy_sound.flac`",
        ),
    ] = 0
    median: Annotated[float, Field(description="Median score of healthy windows")]
    span: Annotated[
        float, Field(gt=0, description="From that median to the threshold as exported, in score")
    ]
    graphs: Annotated[
        tuple[ParityGraph, ...],
        Field(min_length=1, max_length=2, description="What each graph must give"),
    ]


class ProcessorInfo(Strict):
    """The processor that a bundle was exported on, as far as it matters to INT8."""

    machine: Annotated[str, Field(description="Architecture (x86_64, aarch64)")]
    model: Annotated[str, Field(description="Its name; empty when it does not tell")] = ""
    flags: Annotated[
        tuple[str, ...],
        Field(
            description="Instruction sets that it has of those that INT8 products use, as Linux "
            "names them: avx2, avx512f, avx512bw, avx_vnni, avx512_vnni, amx_int8; asimd, asimddp, "
            "i8mm, sve"
        ),
    ] = ()


class LevelInfo(Strict):
    """How loud the healthy machine was where the bundle was trained."""

    median_dbfs: Annotated[float, Field(description="Median RMS level of healthy windows, dBFS")]
    spread_db: Annotated[
        float,
        Field(ge=0, description="Median absolute deviation of their levels from it, dB"),
    ] = 0.0


class ScaleInfo(Strict):
    """Where scores lie on the scale that people are shown: 0 the median of healthy, 1 the alarm."""

    median: Annotated[float, Field(description="Raw score of the median healthy window")]
    zones: Annotated[
        tuple[float, ...],
        Field(
            description="Raw scores at which severity zones B, C and D begin, ascending: the "
            "healthy 95 % quantile, the bundle's own threshold, and where healthy sound is a "
            "thousand times rarer than there (1.6 times its height over the median at least). "
            "The device moves them with the threshold in force"
        ),
    ] = ()


class PlantedFault(Strict):
    """A simple fault added to healthy windows at export, and what they then scored."""

    kind: Annotated[str, Field(description="What was added, in words")]
    level_db: Annotated[float, Field(description="Its level relative to the window's own, dB RMS")]
    score: Annotated[float, Field(description="Median raw score of the windows with it")]


class SightInfo(Strict):
    """What the bundle's promise of false alarms is, and what faults score."""

    wanted: Annotated[
        FalseAlarms | None,
        Field(description="Alarms of a healthy machine that were asked for, at most"),
    ] = None
    kept: Annotated[
        FalseAlarms | None,
        Field(description="Those its threshold is made for; null when only a share of windows"),
    ] = None
    planted: Annotated[
        tuple[PlantedFault, ...], Field(description="Faults planted in healthy windows")
    ] = ()
    recorded: Annotated[
        tuple[float, ...],
        Field(
            description="Of each faulty test recording the raw score that two thirds of its "
            "windows reach: with a threshold below it, it would raise an alarm if it went on"
        ),
    ] = ()
    advice: Annotated[
        str, Field(description="What to record to reach the promise asked for; empty when kept")
    ] = ""


class AgreementInfo(Strict):
    """How far the bundle's own healthy recordings agree, each held against the others at export."""

    recordings: Annotated[int, Field(ge=0, description="Healthy recordings that were held")]
    above: Annotated[
        int, Field(ge=0, description="Those above a threshold that was found without them")
    ]
    above_share_least: Annotated[
        float,
        Field(ge=0, le=1, description="Least share of them that it may be, with 95 % confidence"),
    ]
    above_share_bound: Annotated[
        float, Field(ge=0, le=1, description="From here on the detector is called ruined")
    ]
    spread: Annotated[
        float,
        Field(
            description="How far the strangest lies above the median, as a multiple of the "
            "distance from it within which three in four lie"
        ),
    ]
    spread_bound: Annotated[
        float, Field(gt=0, description="From here on the detector is called ruined")
    ]
    ruined: Annotated[
        str, Field(description="Why it is ruined, in words; empty when it is not")
    ] = ""


class ConditionsInfo(Strict):
    """How the recordings that the bundle was trained on were made."""

    channel: Annotated[
        int | None, Field(ge=0, description="Channel used, from 0; null for the mean of all")
    ] = None
    channels: Annotated[
        tuple[int, ...], Field(description="Numbers of channels of the files, ascending")
    ] = ()
    channel_levels_db: Annotated[
        tuple[float, ...],
        Field(
            description="Median level of each channel below the loudest, dB, where several are "
            "averaged; else empty"
        ),
    ] = ()
    sample_rates: Annotated[
        tuple[int, ...], Field(description="Sample rates of the files, Hz, ascending")
    ] = ()
    codecs: Annotated[
        tuple[str, ...],
        Field(description="How the files were written (WAV PCM_16, MP3 MPEG_LAYER_III, aac)"),
    ] = ()
    bandwidth_hz: Annotated[
        float | None,
        Field(gt=0, description="Frequency up to which they hold sound, Hz; null when not known"),
    ] = None
    bandwidth_range_hz: Annotated[
        tuple[float, float] | None,
        Field(description="The same of the narrowest and of the widest of them, Hz"),
    ] = None
    clip_seconds: Annotated[
        tuple[float, float] | None,
        Field(description="Shortest and longest recording, seconds; null when not known"),
    ] = None


class BankVersion(Strict):
    """How a memory bank came to differ from the exported one (`auscult bank`)."""

    version: Annotated[int, Field(ge=1, description="Number of this version, from 1")]
    origin: Annotated[str, Field(description="`digest` of the exported bundle it grew from")]
    parent: Annotated[str, Field(description="`digest` of the bundle it was made of")]
    change: Annotated[str, Field(description="What was done, in words")]
    added: Annotated[int, Field(ge=0, description="Rows that are not in its parent")] = 0
    removed: Annotated[int, Field(ge=0, description="Rows of its parent that it lacks")] = 0
    forced: Annotated[
        tuple[str, ...], Field(description="Known alarms that a person let it silence, by id")
    ] = ()


class IndexInfo(Strict):
    """The index of a large bank; what small banks have is not looked at."""

    rows: Annotated[int, Field(gt=0, description="Rows it is of")]
    columns: Annotated[
        int,
        Field(
            gt=0,
            description="Numbers it holds for a row: of an embedding's length the vector itself, "
            "of fewer its reduced form (`scorer.index_basis.npy`)",
        ),
    ]
    cells: Annotated[
        int, Field(ge=0, description="Cells its rows lie in; 0 of bundles of before")
    ] = 0
    searched: Annotated[
        int, Field(ge=0, description="Cells that a search looks at; 0 of bundles of before")
    ] = 0
    m: Annotated[
        int | None, Field(gt=0, description="Of bundles of before: links of a row (HNSW)")
    ] = None
    ef_construction: Annotated[
        int | None, Field(gt=0, description="Of bundles of before: candidates for a new row")
    ] = None
    ef: Annotated[
        int | None, Field(gt=0, description="Of bundles of before: candidates in a search")
    ] = None
    compared: Annotated[
        int, Field(gt=0, description="Candidates compared exactly at most, the most promising")
    ] = 128
    recall: Annotated[
        float | None, Field(ge=0, le=1, description="Share of nearest rows found, as measured")
    ]
    used: Annotated[bool, Field(description="false: too few, so that every row is compared")]

"""A preset: the whole recipe of a detector, as a YAML file that a person can read and change."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from agent.decide.config import FalseAlarms
from agent.errors import ConfigError
from agent.schema import Strict, explain
from agent.score.config import KnnConfig, ScorerConfig
from trainer.fit.config import TrainingConfig as TrainingConfig  # noqa: PLC0414

# In a wheel the presets lie inside this package; in a checkout beside it.
_PLACES = (
    Path(__file__).parent / "configs" / "presets",
    Path(__file__).parent.parent / "configs" / "presets",
)
# Kinds that mean nothing without their published weights.
_PRETRAINED = {"mn04", "beats", "eat", "m2d", "dasheng", "muq"}


class EncoderConfig(Strict):
    """Which encoder, and which of its features."""

    kind: Annotated[
        Literal[
            "loudness",
            "log_mel",
            "spectral_shape",
            "dual_path",
            "ae",
            "bigru",
            "acae",
            "mn04",
            "beats",
            "eat",
            "m2d",
            "dasheng",
            "muq",
        ],
        Field(description="Encoder family"),
    ]
    features: Annotated[
        str,
        Field(description="Which of its features make the embedding; '' for its only one"),
    ] = ""
    weights: Annotated[
        str | None,
        Field(description="Checkpoint file it starts from, looked up in --weights; null for none"),
    ] = None
    size: Annotated[
        str,
        Field(
            description="Published size of a transformer (base, large, 06b, 80x1001p16x16...); "
            "'' for the usual one"
        ),
    ] = ""
    layers: Annotated[
        tuple[int, ...],
        Field(
            description="Hidden states of a transformer that are pooled and joined: 0 is the first "
            "layer's input, k the output of layer k; empty for the last. Later layers are dropped"
        ),
    ] = ()
    pooling: Annotated[
        Literal[
            "",
            "mean",
            "max",
            "mean_max",
            "gem",
            "rdp",
            "rdp_gem",
            "attentive",
            "bands",
            "summary",
        ],
        Field(
            description="How a transformer's tokens become one vector; '' for its authors' way. "
            "bands: mean over time of each frequency row; summary: the class token"
        ),
    ] = ""
    pooling_exponent: Annotated[
        float | None,
        Field(gt=0, description="p of gem, gamma of rdp and rdp_gem; null for the published one"),
    ] = None
    pooling_dim: Annotated[
        int, Field(ge=1, description="Length of the vector that attentive gives for a layer")
    ] = 256


class WindowConfig(Strict):
    """How recordings are cut."""

    seconds: Annotated[float, Field(gt=0, description="Length of a window, seconds")] = 10.0
    hop_seconds: Annotated[
        float, Field(gt=0, description="Step between windows on the device, seconds")
    ] = 1.0
    train_hop_seconds: Annotated[
        float, Field(gt=0, description="Step between windows of a training recording, seconds")
    ] = 5.0


class ThresholdConfig(Strict):
    """Where healthy ends."""

    false_alarm_rate: Annotated[
        float, Field(gt=0, lt=1, description="Share of healthy windows allowed above the threshold")
    ] = 0.01
    false_alarms: Annotated[
        FalseAlarms | None,
        Field(
            description="Alarms that a healthy machine may raise, with the agent's own counts of "
            "windows; the share of windows follows from it, and `false_alarm_rate` holds for whole "
            "recordings alone. null for `false_alarm_rate`"
        ),
    ] = None


class QuantizationConfig(Strict):
    """What export may do to the numbers."""

    mode: Annotated[
        Literal["static", "dynamic", "none"], Field(description="INT8 method; none keeps float32")
    ] = "static"
    calibration_windows: Annotated[
        int, Field(ge=1, description="Healthy windows the activation ranges are measured on")
    ] = 64
    min_cosine: Annotated[
        float,
        Field(gt=0, le=1, description="Refuse a bundle whose mean cosine to float32 is below this"),
    ] = 0.98
    max_hmean_drop: Annotated[
        float,
        Field(ge=0, description="Refuse a bundle whose harmonic mean on the test set fell by more"),
    ] = 0.01


class DriftConfig(Strict):
    """What the drift monitor on the device compares with."""

    enabled: Annotated[bool, Field(description="Put a drift baseline into the bundle")] = True
    step_seconds: Annotated[
        float | None,
        Field(
            gt=0,
            description="Step between the windows that it takes, in the baseline and on the "
            "device, seconds; null for a window's length, so that none overlap",
        ),
    ] = None
    least_windows: Annotated[
        int, Field(ge=16, description="With fewer healthy windows there is no baseline")
    ] = 32


class Preset(Strict):
    """`configs/presets/<name>.yaml`."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$", description="Its name, that of its file")]
    summary: Annotated[str, Field(description="What it is, one line")]
    source: Annotated[str, Field(description="Report it follows, and deviations")] = ""
    floor: Annotated[
        bool, Field(description="A floor: printed in every table, below the real systems")
    ] = False
    encoder: EncoderConfig
    training: TrainingConfig = TrainingConfig()
    window: WindowConfig = WindowConfig()
    scorer: ScorerConfig = KnnConfig()
    threshold: ThresholdConfig = ThresholdConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    drift: DriftConfig = DriftConfig()
    published: Annotated[
        dict[str, Any], Field(description="Figures its source reports, as data")
    ] = {}

    @model_validator(mode="after")
    def _weights(self) -> Preset:
        encoder = self.encoder
        if (
            encoder.kind in _PRETRAINED
            and encoder.weights is None
            and not encoder.size.startswith("tiny")
        ):
            raise ValueError(
                f"encoder.weights: {encoder.kind} is pre-trained, name its checkpoint; "
                "without one it would judge by random numbers"
            )
        return self


def preset_names() -> list[str]:
    """Names of the presets that come with auscult, sorted."""
    return sorted({path.stem for place in _PLACES for path in place.glob("*.yaml")})


def load_preset(name: str | Path) -> Preset:
    """Read a preset by name, or from a file of the user's own.

    Raises:
        ConfigError: It does not exist, or a field is wrong (which is named).
    """
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        for place in _PLACES:
            if (place / f"{name}.yaml").is_file():
                path = place / f"{name}.yaml"
                break
        else:
            raise ConfigError(
                f"there is no preset '{name}'",
                remedy=f"Choose one of {', '.join(preset_names())}, or give a .yaml file.",
            )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(f"cannot be read: {fault.strerror}", where=path) from fault
    except (yaml.YAMLError, UnicodeDecodeError) as fault:
        raise ConfigError(f"is not YAML: {fault}", where=path) from fault
    try:
        return Preset.model_validate(data)
    except ValidationError as fault:
        raise ConfigError(explain(fault), where=path) from fault

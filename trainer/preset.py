"""A preset: the whole recipe of a detector, as a YAML file that a person can read and change."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agent.bundle.report import ReportInfo
from agent.config.recipe import Recipe
from agent.config.scorer import FusionConfig, ScorerConfig
from agent.config.scorer_density import DtmmConfig
from agent.core.schema import Strict
from trainer.encoder_config import EncoderConfig
from trainer.fit.config import TrainingConfig as TrainingConfig  # noqa: PLC0414

# Kinds that mean nothing without their published weights.
_PRETRAINED = {"mn04", "yamnet", "speech_embedding", "beats", "eat", "m2d", "dasheng", "muq"}


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


class SelectionConfig(Strict):
    """Candidates that compete with the preset's own encoder and scorer for each machine."""

    encoders: Annotated[
        tuple[EncoderConfig, ...],
        Field(description="Other encoders, or other features, layers and poolings of the same"),
    ] = ()
    scorers: Annotated[
        tuple[ScorerConfig, ...],
        Field(description="Other scorers; every encoder is tried with every scorer that fits it"),
    ] = ()
    windows: Annotated[
        int, Field(ge=8, description="Healthy windows of each domain that faults are made from")
    ] = 48
    confidence: Annotated[
        float,
        Field(
            ge=0.5,
            lt=1,
            description="A candidate is taken only if it beats the preset's own in this share of "
            "resamples of the recordings",
        ),
    ] = 0.95


class Member(Strict):
    """A preset that an ensemble holds."""

    preset: Annotated[str, Field(description="Its name, or a .yaml file")]
    weight: Annotated[float, Field(gt=0, description="Its score's weight, in a fusion")] = 1.0
    layers: Annotated[
        Literal["all", "last"],
        Field(description="Its whole embedding, or of a transformer the last layer's part alone"),
    ] = "all"
    recipe: Annotated[
        Preset | None, Field(description="The preset itself, put in when it is read")
    ] = None


class Preset(Recipe):
    """`configs/presets/<name>.yaml`."""

    summary: Annotated[str, Field(description="What it is, one line")]
    source: Annotated[str, Field(description="Report it follows, and deviations")] = ""
    report: Annotated[
        ReportInfo | None, Field(description="The report's system that it follows; null for none")
    ] = None
    members: Annotated[
        tuple[Member, ...],
        Field(
            description="Presets that it is made of, each trained by its own file; `encoder` and "
            "`training` follow from them, and with `scorer.kind: fusion` the scorer's `parts`"
        ),
    ] = ()
    floor: Annotated[
        bool, Field(description="A floor: printed in every table, below the real systems")
    ] = False
    encoder: EncoderConfig
    training: TrainingConfig = TrainingConfig()
    quantization: QuantizationConfig = QuantizationConfig()
    selection: Annotated[
        SelectionConfig | None,
        Field(description="Choose encoder and scorer for each machine from healthy sound alone"),
    ] = None
    published: Annotated[
        dict[str, Any], Field(description="Figures its source reports, as data")
    ] = {}

    @model_validator(mode="after")
    def _weights(self) -> Preset:
        for encoder in self.encoder.each:
            tiny = encoder.size.startswith("tiny")
            if encoder.kind in _PRETRAINED and encoder.weights is None and not tiny:
                raise ValueError(
                    f"encoder.weights: {encoder.kind} is pre-trained, name its checkpoint; "
                    "without one it would judge by random numbers"
                )
        if isinstance(self.scorer, DtmmConfig) and self.scorer.frames != self.encoder.segments:
            raise ValueError(
                f"scorer.frames: is {self.scorer.frames}, and the encoder gives "
                f"{self.encoder.segments} vectors a window (encoder.segments)"
            )
        if isinstance(self.scorer, FusionConfig):
            count = len(self.encoder.each) + len(self.encoder.last_of)
            for place, part in enumerate(self.scorer.parts):
                if part.judged is not None and part.judged[1] >= count:
                    raise ValueError(
                        f"scorer.parts.{place}.encoder: there is no part {part.judged[1]}, "
                        f"the encoder has 0 to {count - 1}"
                    )
        if self.selection is not None:
            self._check_selection(self.selection)
        return self

    def _check_selection(self, selection: SelectionConfig) -> None:
        if selection.encoders and self.training.kind != "frozen":
            raise ValueError(
                "selection.encoders: are for training.kind: frozen; a trained encoder may choose "
                "among scorers alone"
            )
        for place, encoder in enumerate(selection.encoders):
            for part in encoder.each:
                if part.kind in _PRETRAINED and not part.weights and part.size[:4] != "tiny":
                    raise ValueError(
                        f"selection.encoders.{place}.weights: {part.kind} is pre-trained, name "
                        "its checkpoint"
                    )

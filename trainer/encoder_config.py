"""The encoder of a preset: which one, and which of its features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent.core.schema import Strict

# Kinds that are trained on, or joined from, whole windows.
_WHOLE = {"joined", "ae", "bigru", "acae"}


class EncoderConfig(Strict):
    """Which encoder, and which of its features."""

    kind: Annotated[
        Literal[
            "loudness",
            "log_mel",
            "spectral_shape",
            "spectral_quantiles",
            "sound_views",
            "dual_path",
            "joined",
            "ae",
            "bigru",
            "acae",
            "mn04",
            "yamnet",
            "speech_embedding",
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
    level: Annotated[
        Literal["keep", "remove"],
        Field(
            description="mn04, yamnet, speech_embedding: keep, it hears the waveform as loud as it "
            "is; remove, as if every window were equally loud, so that a gain changes nothing"
        ),
    ] = "keep"
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
    merge_after: Annotated[
        int | None,
        Field(
            ge=0,
            description="beats, eat: after so many layers the tokens of two neighbouring time "
            "steps become one, their mean, so that later layers take half as many; null for none. "
            "`auscult shorten` measures what it costs",
        ),
    ] = None
    heads: Annotated[
        int | None,
        Field(
            ge=1,
            description="beats, eat, m2d, dasheng: attention heads left in each layer; null for "
            "all. Which ones, `auscult shorten` finds from healthy sound: not with `weights`",
        ),
    ] = None
    segments: Annotated[
        int,
        Field(
            ge=1,
            description="Equal pieces of a window, each embedded by itself; the embedding holds "
            "one vector a piece, for scorers that judge several (`scorer.frames`)",
        ),
    ] = 1
    parts: Annotated[
        tuple[EncoderConfig, ...],
        Field(description="joined: the encoders whose embeddings stand side by side"),
    ] = ()
    unit: Annotated[
        bool,
        Field(
            description="joined: each part's embedding is brought to unit length; of a part: its "
            "own is"
        ),
    ] = False
    together: Annotated[
        bool,
        Field(
            description="joined: the parts are trained as branches of one embedding (which "
            "feature_exchange may swap); false: each by itself"
        ),
    ] = True

    last_of: Annotated[
        tuple[int, ...],
        Field(
            description="joined: parts, from 0, whose last layer's vector stands behind all parts "
            "once more, as a further part for a scorer to judge"
        ),
    ] = ()

    @model_validator(mode="after")
    def _parts(self) -> EncoderConfig:
        if self.kind == "joined":
            if len(self.parts) < 2:
                raise ValueError("parts: a joined encoder has at least two")
            if any(part.kind == "joined" for part in self.parts):
                raise ValueError("parts: a joined encoder has no joined parts")
        elif self.parts:
            raise ValueError(f"parts: {self.kind} has none; they are for kind: joined")
        wrong = [place for place in self.last_of if not 0 <= place < len(self.parts)]
        if wrong:
            raise ValueError(f"last_of: there is no part {wrong[0]}")
        if self.segments > 1 and self.kind in _WHOLE:
            raise ValueError(f"segments: {self.kind} takes whole windows only")
        return self

    @property
    def each(self) -> tuple[EncoderConfig, ...]:
        """The encoder, or the parts of a joined one."""
        return self.parts or (self,)

    def without_weights(self) -> EncoderConfig:
        """This encoder without checkpoints, for a caller that brings the values itself."""
        parts = tuple(part.without_weights() for part in self.parts)
        return self.model_copy(update={"weights": None, "parts": parts})

"""What a selection found, as `run.json` keeps it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.config.scorer import ScorerConfig
from agent.core.schema import Strict
from trainer.encoder_config import EncoderConfig


class JudgedRecord(Strict):
    """One candidate."""

    name: Annotated[str, Field(description="Encoder and scorer in words")]
    encoder: EncoderConfig
    scorer: ScorerConfig
    figure: Annotated[
        float, Field(description="Mean over kinds of made-up fault of the official score, fraction")
    ]
    kinds: Annotated[dict[str, float], Field(description="The same of each kind")]
    auc_source: Annotated[float | None, Field(description="Mean AUC of source normals")] = None
    auc_target: Annotated[float | None, Field(description="Mean AUC of target normals")] = None
    better: Annotated[
        float | None,
        Field(description="Share of resamples of recordings in which it beats the preset's own"),
    ] = None


class SelectionRecord(Strict):
    """The whole selection."""

    judged: Annotated[
        tuple[JudgedRecord, ...], Field(description="Candidates, the preset's own first")
    ]
    chosen: Annotated[int, Field(ge=0, description="Which of them the run took")]
    windows: Annotated[int, Field(ge=0, description="Healthy windows that faults were made from")]
    note: Annotated[str, Field(description="The choice in words")]

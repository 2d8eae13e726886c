"""How the encoder is run: the `inference` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.schema import Strict


class InferenceConfig(Strict):
    """How the encoder is run."""

    threads: Annotated[int, Field(ge=1, le=256, description="Threads one inference may use")] = 1
    providers: Annotated[
        tuple[str, ...],
        Field(min_length=1, description="onnxruntime execution providers, the preferred first"),
    ] = ("CPUExecutionProvider",)

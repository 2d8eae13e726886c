"""How the encoder is run: the `inference` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.schema import Strict


class InferenceConfig(Strict):
    """How the encoder is run; `auscult tune` measures which settings suit a device."""

    threads: Annotated[int, Field(ge=1, le=256, description="Threads one inference may use")] = 1
    spinning: Annotated[
        bool,
        Field(
            description="Threads wait for their part busily: sooner done where windows follow each "
            "other closely, at many times the processor time where they don't"
        ),
    ] = False
    arena: Annotated[
        bool,
        Field(description="Memory is kept from one window to the next, not given back"),
    ] = True
    memory_pattern: Annotated[
        bool,
        Field(description="Memory of a window is one block planned ahead: more of it"),
    ] = False
    providers: Annotated[
        tuple[str, ...],
        Field(
            min_length=1,
            description="onnxruntime execution providers, the preferred first; one that this "
            "device lacks is passed over with a notice where a later one is there",
        ),
    ] = ("CPUExecutionProvider",)
    provider_options: Annotated[
        dict[str, dict[str, str]],
        Field(
            description="By provider its options, as onnxruntime names them; those of CUDA and "
            "TensorRT have defaults here (docs/notes/speed.md)"
        ),
    ] = {}

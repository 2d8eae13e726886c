"""`plant.yaml`: the machines of a plant, what each is learnt from, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from agent.core.broker import BrokerConfig
from agent.core.errors import ConfigError
from agent.core.paths import FilePath
from agent.core.schema import Strict, explain, spelt
from plant.rollout.config import RolloutConfig
from plant.sections import of_learning, read_sections

_NAME = spelt(
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
    "at most 100 letters, digits, '.', '_' and '-', a letter or digit first",
)
_REMEDY = "`auscult plant build --help` shows the smallest one."


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Path) else value


def _preset(value: str | None, info: ValidationInfo) -> str | None:
    """A preset's own file lies beside `plant.yaml`."""
    base = (info.context or {}).get("base")
    if value is None or base is None or not value.endswith((".yaml", ".yml")):
        return value
    return str(Path(base) / value)


class HowLearnt(Strict):
    """How a machine is learnt; what a machine leaves out is taken from `defaults`."""

    method: Annotated[
        Literal["train", "learn"] | None,
        Field(
            description="train: `auscult train` and `auscult export`, which score the test "
            "recordings too; learn: `auscult learn`, in seconds, with an encoder that comes with "
            "auscult or is lent by a bundle (`encoder_from`). train when left out"
        ),
    ] = None
    preset: Annotated[
        str | None,
        AfterValidator(_preset),
        Field(description="Preset name, or a .yaml; the command's own when left out"),
    ] = None
    encoder_from: Annotated[
        FilePath | None,
        Field(description="With `method: learn`, a bundle whose encoder and recipe are taken"),
    ] = None
    weights: Annotated[
        FilePath | None, Field(description="Folder of pre-trained checkpoints, or the file itself")
    ] = None
    channel: Annotated[
        int | None, Field(ge=0, description="Channel of the recordings, from 0; average of all")
    ] = None
    untypical: Annotated[
        Literal["refuse", "leave-out", "keep"] | None,
        Field(
            description="Healthy recordings unlike all others: refuse to learn, leave them out, or "
            "learn from them but let none set the threshold. refuse when left out"
        ),
    ] = None
    seed: Annotated[int | None, Field(ge=0, lt=2**32, description="Random seed of training")] = None
    select: Annotated[
        bool | None,
        Field(description="Choose scorer and encoder by the machine's healthy sound (`--select`)"),
    ] = None
    precision: Annotated[
        Literal["int8", "float32"] | None,
        Field(description="Of the exported encoder; int8, as far as bounds allow, when left out"),
    ] = None
    sound: Annotated[
        bool | None,
        Field(description="Put a few healthy windows into the bundle as sound; true when left out"),
    ] = None
    evaluate: Annotated[
        Literal["no", "given", "time"] | None,
        Field(
            description="Also `auscult evaluate`, with its report beside floors and intervals: on "
            "the test recordings that were given, or (time) on the later half of the healthy ones"
        ),
    ] = None


class MachineOfPlant(HowLearnt):
    """One machine."""

    name: Annotated[
        str,
        Field(
            pattern=_NAME,
            description="Its name, as its device calls it: at most 100 letters, digits, '.', '_', "
            "'-'",
        ),
    ]
    data: Annotated[
        tuple[FilePath, ...],
        BeforeValidator(_listed),
        Field(
            min_length=1,
            description="Its recordings: a folder as `auscult train` takes it, a zip that a "
            "device's page gave, or several of them, which are taken together. From this file's "
            "folder; on a Ray cluster a path that every node sees",
        ),
    ]


class PlantFile(Strict):
    """`plant.yaml`."""

    plant: Annotated[str, Field(pattern=_NAME, description="The plant's name, for its pages")]
    out: Annotated[
        FilePath,
        Field(
            validate_default=True,
            description="Where bundles, records and the summary go; on Ray, seen by every node",
        ),
    ] = Path("plant")
    sign: Annotated[
        FilePath | None,
        Field(description="Private key of `auscult keygen` that bundles are signed with"),
    ] = None
    broker: Annotated[
        BrokerConfig | None, Field(description="The broker that devices publish to; MQTT 5")
    ] = None
    rollout: Annotated[RolloutConfig, Field(description="How bundles reach devices")] = (
        RolloutConfig()
    )
    defaults: Annotated[HowLearnt, Field(description="For machines that do not say otherwise")] = (
        HowLearnt()
    )
    machines: Annotated[tuple[MachineOfPlant, ...], Field(min_length=1, description="The machines")]

    @model_validator(mode="after")
    def _distinct(self) -> PlantFile:
        names = [one.name.lower() for one in self.machines]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"machines: '{twice[0]}' is there twice")
        for one in self.machines:
            how = self.how(one)
            if how.encoder_from is not None and how.method != "learn":
                raise ValueError(f"machines: {one.name}: `encoder_from` needs `method: learn`")
        return self

    def how(self, machine: MachineOfPlant) -> HowLearnt:
        """How a machine is learnt: what it says itself, else the defaults."""
        own = {
            name: value
            for name in HowLearnt.model_fields
            if (value := getattr(machine, name)) is not None
        }
        return self.defaults.model_copy(update=own)


def load_plant(path: Path) -> PlantFile:
    """Read `plant.yaml`.

    Raises:
        ConfigError: It cannot be read, or does not validate; names each field.
    """
    data = of_learning(read_sections(path, _REMEDY))
    try:
        return PlantFile.model_validate(data, context={"base": path.absolute().parent})
    except ValidationError as fault:
        raise ConfigError(explain(fault), where=path, remedy=_REMEDY) from fault

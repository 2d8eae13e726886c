"""Ensembles of presets: one joined encoder of all their models, each trained by its own preset.

Models that two members hold are trained and computed once. A member that is an ensemble itself (a
concatenation) brings its own members.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.config.scorer import FusionConfig
from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.preset import Member, Preset

_FUSION = "fusion"


@dataclass(frozen=True, slots=True)
class Leaf:
    """A model of an ensemble.

    Attributes:
        recipe: The preset that it is trained by, no ensemble itself.
        last: Whether only its last layer's vector is asked for.
    """

    recipe: Preset
    last: bool


@dataclass(slots=True)
class _Joined:
    """The joined encoder as it is put together."""

    parts: list[EncoderConfig] = field(default_factory=list)
    places: dict[str, range] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)
    last_of: list[int] = field(default_factory=list)


def leaves(member: Member) -> Iterator[Leaf]:
    """The models of a member, in order.

    Args:
        member: With its recipe.
    """
    recipe = member.recipe
    assert recipe is not None
    if not recipe.members:
        yield Leaf(recipe, member.layers == "last")
        return
    for inner in recipe.members:
        for leaf in leaves(inner):
            yield Leaf(leaf.recipe, leaf.last or member.layers == "last")


def recipes(preset: Preset) -> dict[str, Preset]:
    """The presets that are trained for an ensemble, by name, each once."""
    return {leaf.recipe.name: leaf.recipe for m in preset.members for leaf in leaves(m)}


def places(preset: Preset) -> dict[str, range]:
    """Which parts of an ensemble's joined encoder each of `recipes` fills."""
    found: dict[str, range] = {}
    start = 0
    for name, recipe in recipes(preset).items():
        count = len(recipe.encoder.each)
        found[name] = range(start, start + count)
        start += count
    return found


def read_member(given: Any, where: Path | str) -> Member:
    """One of `members`, as a preset's file has it.

    Raises:
        ConfigError: A field is wrong.
    """
    try:
        return Member.model_validate(given)
    except ValueError as fault:
        raise ConfigError(f"a member is wrong: {fault}", where=f"{where} (members)") from fault


def assemble(data: Mapping[str, Any], *, where: Path | str) -> dict[str, Any]:
    """An ensemble's preset with what follows from its members.

    Args:
        data: The preset as read, with `members`, each with its `recipe`.
        where: Names the file in faults.

    Raises:
        ConfigError: A member is wrong or cannot be joined so.
    """
    members = [read_member(given, where) for given in data["members"]]
    scorer = dict(data.get("scorer", {}))
    fused = scorer.get("kind") == _FUSION
    for member in members:
        if fused and isinstance(_recipe(member).scorer, FusionConfig):
            raise ConfigError(
                f"{member.preset} fuses scores itself, and no fusion holds another",
                where=f"{where} (members)",
                remedy="Name its members instead, with weights that include its own.",
            )
    joined = _join(members)
    if fused:
        scorer["parts"] = [
            {
                "encoder": _span(member, joined, where),
                "weight": member.weight,
                "scorer": _recipe(member).scorer.model_dump(mode="json"),
            }
            for member in members
        ]
    trained = [leaf.recipe.training for member in members for leaf in leaves(member)]
    learnt = next((one for one in trained if one.kind != "frozen"), trained[0])
    encoder = EncoderConfig(
        kind="joined",
        together=False,
        parts=tuple(joined.parts),
        last_of=tuple(joined.last_of),
    )
    return {
        **data,
        "members": [member.model_dump(mode="json") for member in members],
        "encoder": encoder.model_dump(mode="json"),
        "training": learnt.model_dump(mode="json"),
        "window": data.get("window") or _recipe(members[0]).window.model_dump(mode="json"),
        "scorer": scorer,
    }


def _recipe(member: Member) -> Preset:
    assert member.recipe is not None
    return member.recipe


def _join(members: list[Member]) -> _Joined:
    """All models' encoders side by side; whole where any member wants the whole."""
    found = [leaf for member in members for leaf in leaves(member)]
    joined = _Joined(whole={leaf.recipe.name for leaf in found if not leaf.last})
    for leaf in found:
        name, encoder = leaf.recipe.name, leaf.recipe.encoder
        if name in joined.places:
            continue
        start = len(joined.parts)
        for part in encoder.each:
            cut = {} if name in joined.whole else {"layers": part.layers[-1:]}
            joined.parts.append(part.model_copy(update={"unit": encoder.unit} | cut))
        joined.places[name] = range(start, len(joined.parts))
    return joined


def _span(member: Member, joined: _Joined, where: Path | str) -> tuple[int, int]:
    """First and last part that a member's scorer judges; parts of `last_of` are added as needed."""
    found = list(leaves(member))
    parts = [part for leaf in found for part in joined.places[leaf.recipe.name]]
    whole = all(not leaf.last or leaf.recipe.name not in joined.whole for leaf in found)
    if whole and parts == list(range(parts[0], parts[-1] + 1)):
        return parts[0], parts[-1]
    if any(not leaf.last for leaf in found):
        raise ConfigError(
            f"the models of {member.preset} do not stand side by side",
            where=f"{where} (members)",
            remedy="Name it before the members that share its models.",
        )
    first = len(joined.parts) + len(joined.last_of)
    joined.last_of.extend(parts)
    return first, first + len(parts) - 1

"""Drift on the page: the spectrum then and now, its bands over days, and both to listen to."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated

from pydantic import Field
from starlette.responses import Response

from agent.bundle.exemplars import exemplar_sounds, read_exemplars
from agent.core.clock import utc
from agent.core.errors import BundleError
from agent.core.fields import Time
from agent.core.json_request import ApiError
from agent.core.reasons import UnusualBand
from agent.core.schema import Strict
from agent.explain.spectrum import Floats
from agent.machine.passed import Passed
from agent.web.alarms import flac
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.now import known_machine

_SECONDS = 10.0
_Levels = Annotated[list[float], Field(description="Level of each band, dB")]


class DayOfBands(Strict):
    """A day."""

    day: Annotated[str, Field(description="The day by UTC, ISO 8601")]
    levels: _Levels


class PassedBands(Strict):
    """A change that came and went."""

    bands: Annotated[list[UnusualBand], Field(description="What had changed, most first")]
    begin: Annotated[Time, Field(description="Since when: a whole hour, or a day")]
    end: Annotated[Time, Field(description="Until when")]
    by_day: Annotated[bool, Field(description="Whether it is known by the day (UTC) alone")]


class SpectrumThenAndNow(Strict):
    """How a machine's spectrum has changed."""

    edges_hz: Annotated[
        list[float], Field(description="Edges of the bands, Hz: one more than bands")
    ]
    healthy: _Levels
    spread: Annotated[list[float], Field(description="Healthy deviation of each band, dB")]
    accepted: Annotated[
        list[float] | None,
        Field(description="Levels when a change was accepted last, dB; null before"),
    ]
    now: Annotated[
        list[float] | None,
        Field(description="Mean of the last minutes of running, dB; null before"),
    ]
    bands: Annotated[list[UnusualBand], Field(description="What has changed, most first")]
    passed: Annotated[
        PassedBands | None,
        Field(description="What had changed a while ago and has not now; null for nothing"),
    ]
    days: Annotated[list[DayOfBands], Field(description="Mean levels of each day, in order")]
    then_sound: Annotated[bool, Field(description="Whether healthy sound is here to listen to")]
    now_sound: Annotated[bool, Field(description="Whether the latest sound may be listened to")]


def drift_endpoints(backend: Backend) -> Sequence[Endpoint]:
    """Of the drift card."""
    one = "/machines/{machine}/drift"
    told = partial(Endpoint, "GET")
    return (
        told(f"{one}/spectrum", partial(_spectrum, backend),
             "Its spectrum when healthy and now, and by days", SpectrumThenAndNow),
        told(f"{one}/then.flac", partial(_then, backend),
             "Healthy sound that the bundle carries", "audio/flac"),
        told(f"{one}/now.flac", partial(_now, backend),
             "Its latest sound, ten seconds, where sound may be kept", "audio/flac"),
    )  # fmt: skip


def _spectrum(backend: Backend, asked: Asked) -> SpectrumThenAndNow:
    machine = known_machine(backend, asked)
    days = backend.days(machine)
    told = None if days is None else days.told()
    if days is None or told is None:
        raise ApiError(HTTPStatus.NOT_FOUND, "nothing of its spectrum is known yet")
    healthy, accepted, now, kept = told
    carried = read_exemplars(backend.config.bundle_at(machine))
    return SpectrumThenAndNow(
        edges_hz=_plain(healthy.grid.hertz),
        healthy=_plain(healthy.level),
        spread=_plain(healthy.level_spread),
        accepted=None if accepted is None else _plain(accepted),
        now=None if now is None else _plain(now),
        bands=list(days.bands()),
        passed=_passed(days.passed()),
        days=[DayOfBands(day=one.day, levels=one.levels) for one in kept],
        then_sound=carried is not None and bool(carried.exemplars),
        now_sound=_audible(backend) and backend.recent(machine, 1.0) is not None,
    )


def _passed(found: Passed | None) -> PassedBands | None:
    if found is None:
        return None
    return PassedBands(
        bands=list(found.bands),
        begin=utc(found.begin.timestamp()),
        end=utc(found.end.timestamp()),
        by_day=found.days,
    )


def _then(backend: Backend, asked: Asked) -> Response:
    bundle = backend.config.bundle_at(known_machine(backend, asked))
    carried = read_exemplars(bundle)
    if carried is None or not carried.exemplars:
        raise ApiError(HTTPStatus.NOT_FOUND, "this bundle carries no sound")
    try:
        (samples,), rate = exemplar_sounds(bundle, carried.exemplars[:1])
        return Response(flac(samples, rate), media_type="audio/flac")
    except BundleError as fault:
        raise ApiError(HTTPStatus.NOT_FOUND, str(fault)) from fault


def _now(backend: Backend, asked: Asked) -> Response:
    machine = known_machine(backend, asked)
    if not _audible(backend):
        raise ApiError(HTTPStatus.FORBIDDEN, "no sound of machines is kept here (evidence)")
    clip = backend.recent(machine, _SECONDS)
    if clip is None:
        raise ApiError(HTTPStatus.NOT_FOUND, "nothing is heard at present")
    return Response(flac(clip.samples, clip.rate), media_type="audio/flac")


def _audible(backend: Backend) -> bool:
    """Whether sound as it was heard may be played: no speech is to be taken out of it."""
    evidence = backend.config.evidence
    return evidence.enabled and evidence.sound == "keep" and evidence.speech == "keep"


def _plain(levels: Floats) -> list[float]:
    return [round(float(one), 2) for one in levels]

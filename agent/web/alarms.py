"""Alarms on the page: what was kept of each, its picture, its sound, and that of its neighbours."""

from __future__ import annotations

import contextlib
import io
import json
import logging
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path

import numpy as np
import soundfile
from starlette.responses import Response

from agent.bundle.exemplars import exemplar_sounds, read_exemplars
from agent.collect.session import read_session, segment_of
from agent.core.clock import utc
from agent.core.cloud_event import Message
from agent.core.errors import AuscultError, BundleError
from agent.core.json_request import ApiError
from agent.core.records import Samples
from agent.evidence.record import (
    FEEDBACK,
    PICTURE,
    RECORD,
    SOUND,
    EvidenceRecord,
    Feedback,
    alarm_folders,
    read_feedback,
    read_record,
)
from agent.evidence.spectrogram import spectrogram_png, thumbnail_png
from agent.history.store import PastFile
from agent.publish.messages import figures
from agent.publish.payloads import Alarm
from agent.web.alarm_models import AlarmDetail, AlarmList, AlarmQuery, AlarmSummary, Neighbour
from agent.web.backend import Backend
from agent.web.endpoint import Asked, Endpoint
from agent.web.files import file_answer, folder_named, session_named, zip_answer
from agent.web.now import known_machine

log = logging.getLogger(__name__)

_MOST = 500
_BEGINS = frozenset({"alert", "raised"})
_FIGURES = ("score", "zone", "raw_score", "threshold", "raw_threshold")
_Found = tuple[EvidenceRecord, Feedback | None]


class AlarmDesk:
    """Finds alarms. What was read of a folder is remembered until it changes.

    Args:
        backend: The agent.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._root = backend.config.state_path / "evidence"
        self._read: dict[Path, tuple[tuple[int, int], AlarmSummary]] = {}

    def endpoints(self) -> Sequence[Endpoint]:
        """Of the alarms' page."""
        one = "/alarms/{machine}/{alarm}"
        near = f"{one}/neighbours/{{index}}"
        kept = partial(Endpoint, "GET")
        return (
            Endpoint("GET", "/alarms", self._list, "The alarms known on this device", AlarmList,
                     query=AlarmQuery),
            kept(one, self._detail, "All that is known of an alarm", AlarmDetail),
            kept(f"{one}/sound.flac", partial(self._file, SOUND, "audio/flac"),
                 "Its sound, also in ranges", "audio/flac"),
            kept(f"{one}/spectrogram.png", partial(self._file, PICTURE, "image/png"),
                 "Its spectrogram, unusual regions framed", "image/png"),
            kept(f"{one}/thumbnail.png", self._thumbnail, "The same, small and without axes",
                 "image/png"),
            kept(f"{one}/evidence.zip", self._zip, "All of it as a zip", "application/zip"),
            kept(f"{near}/sound.flac", self._near_sound, "Sound of a healthy neighbour, where it "
                 "was collected on this device", "audio/flac"),
            kept(f"{near}/spectrogram.png", self._near_picture, "Its spectrogram", "image/png"),
        )  # fmt: skip

    def _list(self, asked: Asked) -> AlarmList:
        query: AlarmQuery = asked.query
        wanted = [one for one in self._backend.machines if query.machine in {None, one}]
        found = {(one.machine, one.alarm_id): one for name in wanted for one in self._kept(name)}
        for machine, one in self._told():
            if machine in wanted:
                found.setdefault((machine, one.alarm_id), one)
        latest = sorted(found.values(), key=lambda one: one.raised, reverse=True)
        since = "" if query.since is None else utc(query.since)
        shown = self._as_they_stand([one for one in latest if one.raised >= since])
        return AlarmList(
            alarms=[one for one in shown if _is(one, query.state)][:_MOST],
            standing=self._standing(),
        )

    def _standing(self) -> int:
        """How many machines are in an alert or alarm that is in view."""
        latest = self._backend.live.latest()
        alarms = [latest.get(name, {}).get("alarm") for name in self._backend.machines]
        return sum(one is not None and stands(one) for one in alarms)

    def _detail(self, asked: Asked) -> AlarmDetail:
        machine, alarm = known_machine(self._backend, asked), asked.path["alarm"]
        events = self._events(machine, alarm)
        try:
            record, feedback = _read(folder_named(self._root / machine, alarm))
        except ApiError:
            told = next((one for where, one in self._told()
                         if (where, one.alarm_id) == (machine, alarm)), None)  # fmt: skip
            if told is None:
                raise
            return AlarmDetail(summary=self._as_they_stand([told])[0], record=None, feedback=None,
                               scores=[], neighbours=[], events=events)  # fmt: skip
        return AlarmDetail(
            summary=self._as_they_stand([_summary(machine, record, feedback)])[0],
            record=record,
            feedback=feedback,
            scores=[record.told_on.maybe(one.score) for one in record.windows],
            neighbours=self._neighbours(machine, record),
            events=events,
        )

    def _file(self, name: str, kind: str, asked: Asked) -> Response:
        return file_answer(self._folder(asked) / name, kind)

    def _thumbnail(self, asked: Asked) -> Response:
        place = self._folder(asked) / PICTURE
        try:
            picture = place.read_bytes()
        except OSError as fault:
            raise ApiError(HTTPStatus.NOT_FOUND, "that picture is not kept here") from fault
        return Response(
            thumbnail_png(picture), media_type="image/png",
            headers={"cache-control": "private, max-age=60"},
        )  # fmt: skip

    def _zip(self, asked: Asked) -> Response:
        folder = self._folder(asked)
        machine, alarm = asked.path["machine"], folder.name
        events = self._events(machine, alarm)
        members: list[tuple[str, Path | bytes]] = [
            (f"{alarm}/{name}", folder / name) for name in (RECORD, SOUND, PICTURE, FEEDBACK)
        ]
        members.append((f"{alarm}/events.json", json.dumps(events, indent=1).encode()))
        record, _ = _read(folder)
        for near in self._neighbours(machine, record):
            # What healthy sound it was compared with, as far as that is here.
            with contextlib.suppress(ApiError):
                sound = flac(*self._near_of(machine, record, near))
                members.append((f"{alarm}/healthy-{near.index}.flac", sound))
        return zip_answer(members, f"{machine}-{alarm}.zip")

    def _near_sound(self, asked: Asked) -> Response:
        return Response(flac(*self._near(asked)), media_type="audio/flac")

    def _near_picture(self, asked: Asked) -> Response:
        samples, rate = self._near(asked)
        return Response(spectrogram_png(samples, rate), media_type="image/png")

    def _near(self, asked: Asked) -> tuple[Samples, int]:
        """The sound of a neighbour: as long as a window."""
        machine = known_machine(self._backend, asked)
        record, _ = _read(self._folder(asked))
        near = self._neighbours(machine, record)
        index = next((i for i in range(len(near)) if str(i) == asked.path["index"]), None)
        if index is None:
            raise ApiError(HTTPStatus.NOT_FOUND, "it has no such neighbour")
        return self._near_of(machine, record, near[index])

    def _near_of(
        self, machine: str, record: EvidenceRecord, near: Neighbour
    ) -> tuple[Samples, int]:
        place = self._recording(machine, near.source)
        if place is None:
            return self._carried_sound(machine, near)
        start, seconds = near.start or 0.0, record.windows[-1].seconds
        try:
            with soundfile.SoundFile(place) as file:
                file.seek(min(file.frames, round(start * file.samplerate)))
                samples = file.read(round(seconds * file.samplerate), dtype="float32")
                rate = int(file.samplerate)
        except (OSError, soundfile.SoundFileError) as fault:
            raise ApiError(HTTPStatus.NOT_FOUND, f"it cannot be read: {fault}") from fault
        if not len(samples):
            raise ApiError(HTTPStatus.NOT_FOUND, "that recording is shorter than it was")
        return np.asarray(samples, np.float32), rate

    def _folder(self, asked: Asked) -> Path:
        machine = known_machine(self._backend, asked)
        return folder_named(self._root / machine, asked.path["alarm"])

    def _kept(self, machine: str) -> list[AlarmSummary]:
        root, found, seen = self._root / machine, [], set()
        for folder in alarm_folders(root):
            if folder.is_symlink():
                continue
            seen.add(folder)
            stamp = (_stamp(folder / RECORD), _stamp(folder / FEEDBACK))
            known = self._read.get(folder)
            if known is None or known[0] != stamp:
                try:
                    known = (stamp, _summary(machine, *_read(folder)))
                except AuscultError:
                    continue  # damaged, or removed just now: the others are told of
                self._read[folder] = known
            found.append(known[1])
        for gone in [one for one in list(self._read) if one.parent == root and one not in seen]:
            self._read.pop(gone, None)
        return found

    def _events(self, machine: str, alarm: str) -> list[Message]:
        """The recent events of an alarm."""
        return [
            told.message
            for told in self._backend.live.events()
            if told.machine == machine and told.message["data"].get("alarm_id") == alarm
        ]

    def _told(self) -> list[tuple[str, AlarmSummary]]:
        """Alarms of which there is no more than their event."""
        found = []
        for told in self._backend.live.events():
            data = told.message["data"]
            if told.message["type"].startswith("auscult.alarm.") and data["event"] in _BEGINS:
                found.append((told.machine, _of_event(told.machine, data)))
        return found

    def _as_they_stand(self, alarms: Sequence[AlarmSummary]) -> list[AlarmSummary]:
        """With how each stands now, and with when those that are over were cleared."""
        latest = self._backend.live.latest()
        ends = {name: self._ends(name) for name in {one.machine for one in alarms}}
        found = []
        for one in alarms:
            alarm = latest.get(one.machine, {}).get("alarm")
            if alarm is not None and alarm["alarm_id"] == one.alarm_id:
                # As JSON, for its values are those of a message: plain text where models have
                # enums. What stands has not been cleared, whatever was heard meanwhile.
                standing = Alarm.model_validate_json(json.dumps(alarm))
                found.append(one.model_copy(update={"standing": standing, "cleared": None}))
                continue
            end = ends[one.machine].get(one.alarm_id)
            found.append(one if end is None else one.model_copy(update={"cleared": utc(end)}))
        return found

    def _ends(self, machine: str) -> dict[str, int]:
        """When alarms were cleared: also long after their sound was kept, or before a restart."""
        try:
            return self._backend.history.ask(PastFile.ends, machine)
        except AuscultError as fault:
            log.debug("%s", fault)
            return {}

    def _neighbours(self, machine: str, record: EvidenceRecord) -> list[Neighbour]:
        near: list[tuple[str, float | None, float | None]] = []
        if record.explanation is not None:
            near = [(one.source, one.start, one.distance) for one in record.explanation.nearest]
        elif scored := [one for one in record.windows if one.score is not None and one.neighbour]:
            strangest = max(scored, key=lambda one: one.score or 0.0)
            near = [(strangest.neighbour, strangest.neighbour_start, None)]
        bundle = self._backend.config.bundle_at(machine)
        carried = read_exemplars(bundle) if near else None
        found = []
        for i, (source, start, distance) in enumerate(near):
            played, likest = "", None
            if self._recording(machine, source) is not None:
                played = "itself"
            elif carried is not None and (known := carried.likest(source, start)) is not None:
                exemplar, same = known
                played, likest = ("itself", None) if same else ("likest", exemplar.source)
            found.append(
                Neighbour.model_validate(
                    {"index": i, "source": source, "start": start, "distance": distance,
                     "here": bool(played), "played": played, "likest": likest}
                )
            )  # fmt: skip
        return found

    def _carried_sound(self, machine: str, near: Neighbour) -> tuple[Samples, int]:
        """What the bundle carries of it, or in its place."""
        bundle = self._backend.config.bundle_at(machine)
        carried = read_exemplars(bundle)
        known = None if carried is None else carried.likest(near.source, near.start)
        if known is None:
            raise ApiError(HTTPStatus.NOT_FOUND, "that recording is not on this device")
        try:
            (samples,), rate = exemplar_sounds(bundle, known[:1])
        except BundleError as fault:
            raise ApiError(HTTPStatus.NOT_FOUND, str(fault)) from fault
        return samples, rate

    def _recording(self, machine: str, source: str) -> Path | None:
        """A recording of a bank's row, when it was collected here and is still kept."""
        place = segment_of(source)
        if place is None:
            return None
        session, name = place
        root = self._backend.config.state_path / "collected"
        try:
            folder = session_named(root, machine, session).folder
            files = {segment.file for segment in read_session(folder).segments}
        except (ApiError, AuscultError):
            return None
        return folder / name if name in files else None


def stands(alarm: Message) -> bool:
    """Whether an alarm, as its message has it, stands in view: it is not shelved."""
    return bool(alarm["alarm_id"]) and alarm["shelving"] == "unshelved"


def _is(one: AlarmSummary, state: str) -> bool:
    """Whether an alarm is in a state that can be asked for."""
    standing = one.standing
    return {
        "any": True,
        "standing": standing is not None,
        "unacknowledged": standing is not None and not standing.acknowledged,
        "unanswered": one.verdict is None and not one.asked,
        "answered": one.verdict is not None,
        "over": standing is None and not one.asked,
    }[state]


def flac(samples: Samples, rate: int) -> bytes:
    """Sound as 24-bit FLAC.

    Args:
        samples: float32, shape `(n,)`, full scale 1.0.
        rate: Samples a second.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="FLAC", subtype="PCM_24")
    return file.getvalue()


def _read(folder: Path) -> _Found:
    record = read_record(folder)
    try:
        feedback = read_feedback(folder)
    except AuscultError:
        feedback = None
    return record, feedback


def _summary(machine: str, record: EvidenceRecord, feedback: Feedback | None) -> AlarmSummary:
    return AlarmSummary(
        machine=machine,
        alarm_id=record.alarm_id,
        raised=record.raised,
        cleared=record.cleared,
        **figures(record.told_on, record.score),
        evidence=True,
        asked=record.asked,
        text="" if record.explanation is None else record.explanation.text,
        verdict=None if feedback is None else feedback.verdict,
        accepted=None if feedback is None else feedback.accepted,
        standing=None,
    )


def _of_event(machine: str, data: Message) -> AlarmSummary:
    why = data["explanation"]
    return AlarmSummary(
        machine=machine,
        alarm_id=data["alarm_id"] or "",
        raised=data["time"],
        cleared=None,
        **{name: data[name] for name in _FIGURES},
        evidence=False,
        asked=False,
        text="" if why is None else why["text"],
        verdict=None,
        accepted=None,
        standing=None,
    )


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0

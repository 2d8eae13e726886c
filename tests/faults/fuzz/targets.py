"""Parsers that outsiders reach, each as a function of bytes that may only raise what it promises."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import queue
import shutil
import struct
import sys
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote

import numpy as np

Run = Callable[[bytes], None]
DEEP = b"[" * 20_000


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    Attributes:
        make: Prepares a folder; gives the function to call.
        seeds: Inputs to begin with.
        most: Longest input, bytes.
    """

    make: Callable[[Path], Run]
    seeds: Callable[[Path], Sequence[bytes]]
    most: int = 4096


def _bundle(folder: Path) -> Path:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from support.bundles import build_bundle

    place = folder / "bundle"
    return place if place.exists() else build_bundle(place)


def _manifest(folder: Path) -> Run:
    from agent.bundle.verify import read_manifest
    from agent.core.errors import AuscultError

    bundle = _bundle(folder)

    def run(data: bytes) -> None:
        (bundle / "manifest.json").write_bytes(data)
        with contextlib.suppress(AuscultError):
            read_manifest(bundle)

    return run


def _manifest_seeds(folder: Path) -> Sequence[bytes]:
    text = (_bundle(folder) / "manifest.json").read_bytes()
    return [text, json.dumps(json.loads(text), separators=(",", ":")).encode(), DEEP]


def _row(_: Path) -> Run:
    from agent.publish.row import RowError, message_of

    def run(data: bytes) -> None:
        kind, *parts = data.split(b"\xff", 5)
        fields: list[Any] = [*parts, *[b""] * (4 - len(parts))][:4]
        for place in range(4):
            if kind[:1] == bytes([place]):
                fields[place] = None
        with contextlib.suppress(RowError):
            message_of((len(data), *fields, None))

    return run


def _row_seeds(_: Path) -> Sequence[bytes]:
    fields = [b"a-raised", b"auscult/dev/pump/event", b'{"id":"a","sequence":null}', b"x/json"]
    return [b"\xff".join([b"9", *fields]), b"\xff".join([b"1", *fields]),
            b"\xff".join([b"9", fields[0], fields[1], DEEP, fields[3]])]  # fmt: skip


def _vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


def _index(folder: Path) -> Run:
    from agent.core.errors import AuscultError
    from agent.score.index import choose_index, open_index

    path, vectors = folder / "bank.index.npy", _vectors()
    index = choose_index(vectors, "euclidean", 0.99, [str(i // 4) for i in range(len(vectors))])

    def run(data: bytes) -> None:
        path.write_bytes(data)
        try:
            search, _ = open_index(path, vectors, "euclidean", index)
        except AuscultError:
            return
        # What passes can be searched, and gives rows that there are.
        rows, _ = search.near(vectors[0], 3, 10)
        assert len(set(rows.tolist())) == 10

    return run


def _index_seeds(folder: Path) -> Sequence[bytes]:
    from agent.score.index import choose_index, write_index

    path, vectors = folder / "seed.npy", _vectors()
    index = choose_index(vectors, "euclidean", 0.99, [str(i // 4) for i in range(len(vectors))])
    write_index(path, vectors, "euclidean", index)
    return [path.read_bytes()]


def _audio(folder: Path) -> Run:
    from agent.capture.files import read_audio
    from agent.core.errors import AuscultError

    path = folder / "sound.wav"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(AuscultError):
            read_audio(path, rate=16_000, seconds=1.0)

    return run


def _audio_seeds(folder: Path) -> Sequence[bytes]:
    import soundfile

    sound = np.random.default_rng(0).normal(scale=0.1, size=400).astype(np.float32)
    found = []
    for kind, subtype in (
        ("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("RF64", "PCM_16"),
        ("W64", "PCM_16"), ("CAF", "PCM_16"), ("AIFF", "PCM_16"), ("AU", "PCM_16"),
        ("FLAC", "PCM_16"), ("OGG", "VORBIS"),
    ):  # fmt: skip
        path = folder / f"seed-{kind}-{subtype}"
        soundfile.write(str(path), sound, 16_000, format=kind, subtype=subtype)
        found.append(path.read_bytes())
    with wave.open(str(folder / "w.wav"), "wb") as file:
        file.setparams((2, 2, 8000, 0, "NONE", ""))
        file.writeframes(struct.pack("<100h", *range(100)))
    return [*found, (folder / "w.wav").read_bytes()]


def _config(folder: Path) -> Run:
    from agent.config.agent import load_config
    from agent.core.errors import AuscultError

    path = folder / "agent.yaml"

    def run(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(AuscultError):
            load_config(path)

    return run


def _config_seeds(_: Path) -> Sequence[bytes]:
    example = Path(__file__).parents[3] / "configs" / "agent.yaml"
    short = b"machines:\n- {name: pump, bundle: b, source: {kind: replay, paths: [s]}}\n"
    return [example.read_bytes(), short, b"a: &a [*a]\n", b"machines: !!python/object:os.system x"]


def _command(_: Path) -> Run:
    from agent.core.errors import AuscultError
    from agent.request.commands import COMMANDS
    from agent.request.dispatch import Dispatcher

    names, faults = sorted(COMMANDS), []
    told: queue.Queue[Any] = queue.Queue()

    class Faults(logging.Handler):
        """An unforeseen exception in a handler is only logged, so that the thread lives on."""

        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info:
                faults.append(record.exc_info[1])
                told.put({})

    logging.getLogger("agent.request.dispatch").addHandler(Faults(logging.ERROR))

    def handle(request: Any) -> dict[str, Any]:
        if len(request.machine) % 2:
            raise AuscultError("it would not")
        return {}

    dispatcher = Dispatcher(
        "dev", ["pump", "fan1"], dict.fromkeys(names, handle),
        lambda command, message: told.put(message),
    )  # fmt: skip
    dispatcher.start()

    def run(data: bytes) -> None:
        name = names[data[0] % len(names)] if data else ""
        dispatcher.take(name, data[1:])
        message = told.get(timeout=20)
        if faults:
            raise faults.pop()
        assert json.dumps(message, allow_nan=False)

    return run


def _command_seeds(_: Path) -> Sequence[bytes]:
    from agent.request.commands import COMMANDS

    found = []
    for place, name in enumerate(sorted(COMMANDS)):
        model = COMMANDS[name]
        values = dict.fromkeys(model.model_fields, 1) | {"machine": "pump", "operator": "a"}
        found.append(bytes([place]) + json.dumps(values).encode())
    return [*found, b"\x00" + DEEP]


def _api(folder: Path) -> Run:
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from support.page import Running, page_config

    from agent.web import server

    made: list[Any] = []
    build = server.build_app

    def recorded(*arguments: Any, **named: Any) -> Any:
        made.append(build(*arguments, **named))
        return made[-1]

    server.build_app = recorded
    shutil.rmtree(folder / "pump", ignore_errors=True)
    running = Running(page_config(folder, _bundle(folder), [(3, 440)]))
    running.__enter__()
    loop = asyncio.new_event_loop()
    host = running.url.removeprefix("http://").encode()

    async def ask(method: str, target: bytes, body: bytes) -> int:
        # As a server gives it: ASCII, and the path decoded.
        raw, _, query = quote_from_bytes(target, safe="/?&=%+:;@,").encode().partition(b"?")
        path = unquote(raw.decode())
        sent: list[int] = []
        waits = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> dict[str, Any]:
            if waits:
                return waits.pop()
            await asyncio.sleep(0)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                sent.append(message["status"])

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "scheme": "http", "path": path, "raw_path": raw,
            "query_string": query, "root_path": "", "client": ("127.0.0.1", 5),
            "server": ("127.0.0.1", 80),
            "headers": [(b"host", host), (b"content-type", b"application/json"),
                        (b"origin", b"http://" + host), (b"x-auscult", b"page")],
        }  # fmt: skip
        await asyncio.wait_for(made[0](scope, receive, send), 20)
        return sent[0] if sent else 0

    def run(data: bytes) -> None:
        line, _, body = data.partition(b"\n")
        method = ("GET", "POST", "PUT", "DELETE")[line[0] % 4] if line else "GET"
        status = loop.run_until_complete(ask(method, b"/api/" + line[1:], body))
        assert status < 500, status

    return run


def _api_seeds(_: Path) -> Sequence[bytes]:
    return [
        b"0session", b"0alarms", b"0alarms/pump/a1", b"0alarms/pump/a1/sound.flac",
        b"0history?machine=pump&seconds=60", b"0collected", b"0microphones", b"0bank/pump",
        b'1login\n{"password": "x"}', b'1machines/pump/ack\n{"operator": "a"}',
        b'1machines/pump/mute\n{"seconds": 5}', b'1setup/pump\n{"device": "x"}',
    ]  # fmt: skip


def _plant(_: Path) -> Run:
    from agent.activity.plant import read_running

    def run(data: bytes) -> None:
        field, _, payload = data.partition(b"\xff")
        read_running(payload, field.decode("utf-8", "replace"), 0.5, 3.0)

    return run


def _plant_seeds(_: Path) -> Sequence[bytes]:
    return [b"\xfftrue", b"\xff1.5", b'a.b\xff{"a": {"b": "on"}}', b"\xff" + DEEP, b"\xff1e999"]


def _state(folder: Path) -> Run:
    from agent.decide.state import AlarmFile
    from agent.drift.memory import drift_file

    files = AlarmFile(folder / "pump.json"), drift_file(folder / "drift.json")

    def run(data: bytes) -> None:
        for file, name in zip(files, ("pump.json", "drift.json"), strict=True):
            (folder / name).write_bytes(data)
            file.load()

    return run


def _state_seeds(folder: Path) -> Sequence[bytes]:
    from agent.core.records import Level
    from agent.decide.memory import AlarmMemory
    from agent.decide.state import AlarmFile

    path = folder / "seed.json"
    AlarmFile(path).save(AlarmMemory(level=Level.ALARM, alarm_id="a1"))
    return [path.read_bytes(), b'{"level": "alarm", "later": {"a": [1]}}', DEEP]


TARGETS = {
    "manifest": Target(_manifest, _manifest_seeds, 16_384),
    "outbox_row": Target(_row, _row_seeds),
    "index": Target(_index, _index_seeds, 16_384),
    "audio": Target(_audio, _audio_seeds),
    "config": Target(_config, _config_seeds),
    "command": Target(_command, _command_seeds),
    "plant": Target(_plant, _plant_seeds),
    "state": Target(_state, _state_seeds),
    "api": Target(_api, _api_seeds, 1024),
}

"""Does the broker take what we tell it, and let us hear commands? For `auscult doctor`."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agent.config.publish import MqttConfig
from agent.core.clock import utc
from agent.core.cloud_event import encode
from agent.core.errors import AuscultError, DeliveryError
from agent.core.text import plural
from agent.doctor.finding import Finding, Grade
from agent.publish.connection import Connection
from agent.publish.mqtt_message import MqttMessage
from agent.publish.payloads import Response
from agent.publish.topics import Topics

_NAME = "broker"
_ANSWER_SECONDS = 5.0
_RULES = "Allow this user to write `{base}/#` and to read `{base}/#` at the broker"


class _Probe(Connection):
    """A connection that also tells which subscriptions were refused."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.granted: list[bool] = []

    def _subscribed(
        self, _client: Any, _data: Any, _mid: int, reasons: Any, _properties: Any
    ) -> None:
        self.granted.append(not any(reason.is_failure for reason in reasons))


def check_broker(config: MqttConfig, device: str, machines: Sequence[str]) -> Iterator[Finding]:
    """Connect as the agent does, but under another client id, so as not to drive it out.

    What is published is an answer to a command that nobody gave (`response/doctor`), and for each
    machine an event that says nothing but that it came (`auscult.delivery.probe`). States, which
    the broker retains, stay untouched.

    Args:
        config: The broker.
        device: This device's name.
        machines: Its machines.
    """
    base = f"{config.prefix}/{device}"
    place = f"{config.host}:{config.broker_port}"
    topic, mark = f"{base}/response/doctor", uuid.uuid4().hex
    answered: list[str] = []
    back: list[tuple[str, bytes]] = []
    heard = threading.Event()

    def on_message(topic: str, payload: bytes, _retained: bool) -> None:
        back.append((topic, payload))
        if mark.encode() in payload:
            heard.set()

    message = MqttMessage(topic, _payload(device, mark), 1, retain=False)
    probe = _Probe(
        config,
        f"{config.client_id or f'auscult-{device}'}-doctor",
        message,
        on_answered=lambda _mid, refusal: answered.append(refusal),
        on_message=on_message,
        stopping=threading.Event(),
        # The broker need not keep commands for a client that never returns.
        keep_session=False,
    )
    try:
        probe.prepare()
        began = time.monotonic()
        probe.open()
        yield Finding(
            _NAME, Grade.OK,
            f"{place}: connected in {1000 * (time.monotonic() - began):.0f} ms, "
            f"MQTT {probe.version}{', TLS' if config.tls is not None else ', not encrypted'}",
        )  # fmt: skip
        rules = _RULES.format(base=base)
        probe.subscribe(f"{base}/request/+")
        probe.subscribe(topic)
        _turn(probe, lambda: len(probe.granted) == 2)
        if not probe.granted or not probe.granted[0]:
            text = f"{place}: this user may not read {base}/request/+: no command will be heard"
            yield Finding("commands", Grade.WARN, text, rules)
        else:
            yield Finding("commands", Grade.OK, f"heard at {base}/request/+")
        began = time.monotonic()
        probe.send(message)
        readable = probe.granted[1:] == [True]
        _turn(probe, lambda: bool(answered) and (heard.is_set() or not readable))
        taken = 1000 * (time.monotonic() - began)
        yield _publishing(answered, readable, heard.is_set(), topic, taken, rules)
        yield from _events(probe, Topics(config, device, tuple(machines)), back, answered, rules)
        probe.farewell()
    except (AuscultError, DeliveryError, OSError) as fault:
        where, remedy = place, "Check `mqtt.host` and `mqtt.port`, and the network between"
        problem = str(fault)
        if isinstance(fault, AuscultError):
            where, problem = fault.where or place, fault.problem
            remedy = fault.remedy or remedy
        yield Finding(_NAME, Grade.FAIL, f"{where}: {problem}", remedy)
    finally:
        probe.close()


def _publishing(
    answered: list[str], readable: bool, heard: bool, topic: str, taken: float, rules: str
) -> Finding:
    name = "publishing"
    if not answered:
        text = f"the broker did not acknowledge a message within {_ANSWER_SECONDS:.0f} s"
        return Finding(name, Grade.FAIL, text, "Look at the broker's log and load")
    if answered[0]:
        return Finding(name, Grade.FAIL, f"refused at {topic}: {answered[0]}", rules)
    if heard:
        return Finding(name, Grade.OK, f"a message went there and back in {taken:.0f} ms")
    if readable:
        # MQTT 3.1.1 has no word for a refusal: the broker acknowledges, and drops.
        text = f"a message to {topic} was acknowledged, but did not come back"
        return Finding(name, Grade.WARN, text, rules)
    text = f"a message was acknowledged in {taken:.0f} ms (this user may not read it back)"
    return Finding(name, Grade.OK, text)


def _events(
    probe: _Probe,
    topics: Topics,
    back: list[tuple[str, bytes]],
    answered: list[str],
    rules: str,
) -> Iterator[Finding]:
    """Would an alarm's event arrive? An event of each machine is sent, and awaited."""
    name, sent = "events", topics.probes()
    readable = bool(back)  # what was sent before came back
    probe.subscribe(f"{topics.base}/+/event")
    answered.clear()
    for message in sent:
        probe.send(message)
    wanted = {(message.topic, message.payload) for message in sent}
    _turn(
        probe,
        lambda: len(answered) == len(sent) and (not readable or wanted <= set(back)),
    )
    missing = sorted({topic for topic, _ in wanted - set(back)})
    refused = [why for why in answered if why]
    if refused or len(answered) < len(sent):
        text = f"events are not taken: {refused[0] if refused else 'no acknowledgement'}"
        yield Finding(name, Grade.FAIL, text, rules)
    elif not missing:
        yield Finding(name, Grade.OK, f"an event of {plural(len(sent), 'machine')} came back")
    elif probe.version == "5":
        yield Finding(name, Grade.OK, "taken by the broker (this user may not read them back)")
    elif readable:
        text = f"acknowledged, and delivered to nobody: {', '.join(missing)}: alarms do not arrive"
        yield Finding(name, Grade.FAIL, text, rules)
    else:
        text = "MQTT 3.1.1, and nothing comes back: nobody can say whether alarms arrive"
        yield Finding(name, Grade.WARN, text, rules)


def _turn(probe: Connection, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not done() and time.monotonic() < deadline:
        probe.turn()


def _payload(device: str, mark: str) -> bytes:
    response = Response(
        device=device,
        time=utc(time.time()),
        command="doctor",
        transaction=mark,
        status="ok",
        error=None,
        result={},
    )
    return encode(json.loads(response.model_dump_json()))

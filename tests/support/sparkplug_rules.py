"""A Sparkplug host application that holds an edge node to the specification's rules (3.0).

The names in brackets are the specification's own for its normative statements. It hears one node
from its first birth on, message by message, and raises at the first that breaks a rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.publish.sparkplug.payload import payload_class

INT64, BOOLEAN = 4, 11


@dataclass
class Host:
    """What a host knows of one edge node.

    Attributes:
        group: Its group.
        node: Its id.
    """

    group: str
    node: str
    online: bool = False
    numbers: list[int] = field(default_factory=list)
    seq: int = -1
    devices: dict[str, dict[int, str]] = field(default_factory=dict)
    values: dict[str, dict[str, object]] = field(default_factory=dict)
    births: int = 0
    deaths: int = 0
    rebirth: bool = False

    def hear(self, topic: str, data: bytes, *, retained: bool, qos: int) -> None:
        """A message of the node has come."""
        space, group, kind, node, *rest = topic.split("/")
        assert (space, group, node) == (
            "spBv1.0",
            self.group,
            self.node,
        )  # [tck-id-topic-structure]
        assert not retained, topic  # [tck-id-payloads-*-retain]
        if kind == "NCMD":
            self.rebirth = True
            return
        payload = payload_class().FromString(data)
        assert payload.HasField("timestamp")  # [tck-id-payloads-timestamp-in-UTC]
        assert all(one.HasField("timestamp") for one in payload.metrics)
        getattr(self, f"_{kind.lower()}")(payload, qos, *rest)

    def _nbirth(self, payload, qos: int) -> None:
        assert qos == 0  # [tck-id-payloads-nbirth-qos]
        assert payload.seq == 0  # [tck-id-payloads-nbirth-seq]
        named = {one.name: one for one in payload.metrics}
        number = named["bdSeq"]
        assert number.datatype == INT64  # [tck-id-topics-nbirth-bdseq-included]
        control = named["Node Control/Rebirth"]  # [tck-id-topics-nbirth-rebirth-metric]
        assert (control.datatype, control.boolean_value) == (BOOLEAN, False)
        assert not control.HasField("alias")  # [...-rebirth-name-aliases]
        if self.online:  # the same connection: [tck-id-topics-nbirth-bdseq-matching]
            assert self.rebirth, "a birth that nobody asked for"
            assert number.long_value == self.numbers[-1]
        else:
            if self.numbers:  # [tck-id-topics-nbirth-bdseq-increment]
                assert number.long_value == (self.numbers[-1] + 1) % 256
            self.numbers.append(number.long_value)
        self.online, self.seq, self.rebirth = True, 0, False
        self.births += 1
        self.devices.clear()

    def _dbirth(self, payload, qos: int, device: str) -> None:
        self._in_turn(payload, qos)
        names = [one.name for one in payload.metrics]
        assert all(names)  # [tck-id-payloads-name-birth-data-requirement]
        assert len(set(names)) == len(names)
        assert all(one.HasField("datatype") for one in payload.metrics)  # [...-datatype-req]
        aliases = {one.alias: one.name for one in payload.metrics if one.HasField("alias")}
        taken = [alias for known in self.devices.values() for alias in known]
        # [tck-id-payloads-alias-uniqueness]
        assert len({*aliases, *taken}) == len(aliases) + len(taken)
        self.devices[device] = aliases
        self.values[device] = {}
        for one in payload.metrics:
            self._value(device, one.name, one)

    def _ddata(self, payload, qos: int, device: str) -> None:
        self._in_turn(payload, qos)
        assert device in self.devices, "data of a device that was not born"
        assert len(payload.metrics)
        for one in payload.metrics:
            assert not one.name  # [tck-id-payloads-alias-data-cmd-requirement]
            assert not one.HasField("datatype")  # [tck-id-payloads-metric-datatype-not-req]
            self._value(device, self.devices[device][one.alias], one)

    def _ndeath(self, payload, qos: int) -> None:
        assert qos == 1  # [tck-id-payloads-ndeath-will-message-qos]
        assert not payload.HasField("seq")  # [tck-id-payloads-ndeath-seq]
        (number,) = payload.metrics
        assert (number.name, number.datatype) == ("bdSeq", INT64)
        if number.long_value == self.numbers[-1]:  # [tck-id-payloads-ndeath-bdseq]
            self.online, self.deaths = False, self.deaths + 1

    def _in_turn(self, payload, qos: int) -> None:
        assert qos == 0
        assert self.online, "a message before the node's birth, or after its death"
        assert payload.seq == (self.seq + 1) % 256  # [tck-id-payloads-sequence-num-incrementing]
        self.seq = payload.seq

    def _value(self, device: str, name: str, one) -> None:
        which = one.WhichOneof("value")
        assert (which is None) == one.is_null
        self.values[device][name] = None if which is None else getattr(one, which)

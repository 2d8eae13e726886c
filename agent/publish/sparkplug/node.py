"""One life of an edge node: births, data in sequence, death; nothing here touches the network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from agent.publish.mqtt_message import MqttMessage
from agent.publish.sparkplug.metrics import MachineMetrics
from agent.publish.sparkplug.payload import BD_SEQ, REBIRTH, DataType, Metric, encode_payload

NAMESPACE = "spBv1.0"
_SEQUENCES = 256


class NodeLife:
    """What a node publishes from one connection to its end.

    Args:
        group: Group id.
        node: Edge node id.
        number: `bdSeq`: the same in the death that the broker holds and in the births.
        machines: Its devices.
    """

    def __init__(
        self, group: str, node: str, number: int, machines: Sequence[MachineMetrics]
    ) -> None:
        self._group, self._node = group, node
        self.number = number
        self._machines = machines
        self._seq = 0

    def topic(self, kind: str, machine: str = "") -> str:
        """A topic of this node, or of a device of it."""
        parts = (NAMESPACE, self._group, kind, self._node, machine)
        return "/".join(part for part in parts if part)

    def death(self) -> MqttMessage:
        """NDEATH: the broker's last will, and the node's own word when it leaves."""
        now = _now()
        told = encode_payload([self._bd_seq(now)], now, None)
        return MqttMessage(self.topic("NDEATH"), told, qos=1, retain=False)

    def births(self) -> Iterator[MqttMessage]:
        """NBIRTH, then a DBIRTH for each machine: all metrics, with names and aliases."""
        self._seq = 0
        now = _now()
        control = Metric(REBIRTH, None, DataType.BOOLEAN, value=False, time=now)
        yield self._message("NBIRTH", "", [self._bd_seq(now), control])
        for one in self._machines:
            yield self._message("DBIRTH", one.machine, one.birth())

    def data(self) -> Iterator[MqttMessage]:
        """A DDATA for each machine that has news: what changed, by alias."""
        for one in self._machines:
            if news := one.news():
                yield self._message("DDATA", one.machine, news)

    def _bd_seq(self, now: int) -> Metric:
        return Metric(BD_SEQ, None, DataType.INT64, self.number, now)

    def _message(self, kind: str, machine: str, metrics: Sequence[Metric]) -> MqttMessage:
        data = encode_payload(metrics, _now(), self._seq)
        self._seq = (self._seq + 1) % _SEQUENCES
        return MqttMessage(self.topic(kind, machine), data, qos=0, retain=False)


def _now() -> int:
    return round(time.time() * 1000)

"""Hears alarm events in a process of its own, and writes each down before acknowledging it.

    python subscriber.py PORT FILE

A persistent session (QoS 1, clean start false): what comes while it is away waits at the broker.
FILE gets a line for every receipt, `<topic> <id>`, so one that came twice stands there twice.
"""

from __future__ import annotations

import json
import os
import sys
import threading

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

SESSION = "control-room"
TOPIC = "+/+/+/event"
# By it the agent sees over MQTT 3.1.1 that events arrive; it tells nothing.
PROBE = "auscult.delivery.probe"


def main() -> None:
    port, path = int(sys.argv[1]), sys.argv[2]
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def on_message(_client, _data, message) -> None:
        event = json.loads(message.payload)
        if event["type"] != PROBE:
            os.write(file, f"{message.topic} {event['id']}\n".encode())

    client = paho.Client(
        CallbackAPIVersion.VERSION2, client_id=SESSION, protocol=MQTTProtocolVersion.MQTTv5
    )
    client.reconnect_delay_set(1, 1)
    client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=1)
    client.on_subscribe = lambda *_: print("ready", flush=True)
    client.on_message = on_message
    properties = Properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = 86_400
    client.connect("127.0.0.1", port, clean_start=False, properties=properties)
    client.loop_start()
    threading.Event().wait()


if __name__ == "__main__":
    main()

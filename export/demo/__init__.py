"""The whole path on one machine, shown: recordings, training, bundle, agent, broker, alarm, report.

Nothing here is a shortcut: the agent is `auscult run` in a process of its own, the broker and the
subscriber speak MQTT, and what is reported is what the subscriber received.
"""

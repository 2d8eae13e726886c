"""Runs Home Assistant's own core with its MQTT integration, and takes commands line by line.

Run by the Python of an environment that holds Home Assistant (`make home-assistant`):

    python home_assistant_driver.py FOLDER BROKER_PORT HTTP_PORT

Reads JSON from standard input, a line each, and answers each with a line:

    {"do": "look"}                             states, entities, devices, and what was warned of
    {"do": "call", "domain": "switch", "service": "turn_on", "entity": "switch.pump_shelve"}
    {"do": "rename", "entity": "sensor.pump_score", "name": "Pump, how strange"}
    {"do": "automate", "blueprint": PATH, "input": {...}}   sets an automation up from a blueprint
    {"do": "stop"}
"""

import asyncio
import json
import logging
import shutil
import sys
from pathlib import Path

from homeassistant import bootstrap, config_entries, core, loader
from homeassistant.auth import auth_manager_from_config
from homeassistant.helpers import device_registry, entity_registry
from homeassistant.setup import async_setup_component


class Warned(logging.Handler):
    """Keeps warnings of Home Assistant's MQTT and automation parts."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.kept = []

    def emit(self, record):
        if record.name.startswith(
            ("homeassistant.components.mqtt", "homeassistant.components.automation")
        ):
            self.kept.append(record.getMessage())


async def begin(folder, broker, http):
    (folder / "configuration.yaml").touch()
    hass = core.HomeAssistant(str(folder))
    loader.async_setup(hass)
    hass.config.skip_pip = True
    hass.config_entries = config_entries.ConfigEntries(hass, {})
    await bootstrap.async_load_base_functionality(hass)
    hass.auth = await auth_manager_from_config(hass, [{"type": "homeassistant"}], [])
    serve = {"server_host": "127.0.0.1", "server_port": http}
    assert await async_setup_component(hass, "http", {"http": serve})
    if hass.config_entries.async_entries("mqtt"):
        assert await async_setup_component(hass, "mqtt", {})
    else:
        entry = config_entries.ConfigEntry(
            version=1, minor_version=2, domain="mqtt", title="broker", source="user",
            data={"broker": "127.0.0.1", "port": broker}, options={}, unique_id=None,
            discovery_keys={},
        )  # fmt: skip
        await hass.config_entries.async_add(entry)
    await hass.async_start()
    return hass


def look(hass, warned):
    devices = device_registry.async_get(hass).devices
    entities = entity_registry.async_get(hass).entities.values()
    names = {device.id: device.name for device in devices.values()}
    return {
        "states": {one.entity_id: [one.state, dict(one.attributes)] for one in hass.states.async_all()},
        "entities": {
            one.unique_id: {
                "id": one.id, "entity": one.entity_id, "name": one.name,
                "device": names.get(one.device_id),
            }
            for one in entities if one.platform == "mqtt"
        },
        "devices": {
            device.name: {"via": names.get(device.via_device_id), "url": device.configuration_url}
            for device in devices.values()
        },
        "warned": list(warned.kept),
    }  # fmt: skip


async def automate(hass, folder, blueprint, given):
    home = folder / "blueprints" / "automation" / "auscult"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(blueprint, home / "blueprint.yaml")
    made = {
        "id": "told",
        "alias": "told",
        "use_blueprint": {"path": "auscult/blueprint.yaml", "input": given},
    }
    done = await async_setup_component(hass, "automation", {"automation": [made]})
    called = []
    hass.services.async_register("notify", "test", lambda call: called.append(dict(call.data)))
    hass.data["called"] = called
    return {"done": done}


async def main():
    folder, broker, http = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    warned = Warned()
    logging.getLogger().addHandler(warned)
    hass = await begin(folder, broker, http)
    print(json.dumps({"ready": True}), flush=True)
    while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
        asked, answer = json.loads(line), {}
        await hass.async_block_till_done()
        if asked["do"] == "look":
            answer = look(hass, warned) | {"called": hass.data.get("called", [])}
        elif asked["do"] == "call":
            await hass.services.async_call(
                asked["domain"], asked["service"], {"entity_id": asked["entity"]}, blocking=True
            )
        elif asked["do"] == "rename":
            registry = entity_registry.async_get(hass)
            registry.async_update_entity(asked["entity"], name=asked["name"])
        elif asked["do"] == "automate":
            answer = await automate(hass, folder, asked["blueprint"], asked["input"])
        elif asked["do"] == "stop":
            await hass.async_stop(force=True)
        print(json.dumps(answer, default=str), flush=True)
        if asked["do"] == "stop":
            return


asyncio.run(main())

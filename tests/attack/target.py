"""An agent to attack: a process with a signed bundle, a broker, a page, metrics, and alarms that rise
and clear all the time while it is attacked.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
from faults.plant import HOP, MACHINE, WINDOW, Plant, Site, wait_until
from support.broker import Subscriber, free_port
from support.bundles import build_bundle

from agent.bundle.seal import new_bundle, seal
from agent.bundle.sign import load_private, make_keys, sign_folder
from agent.bundle.verify import read_manifest

TOKEN = "operators-token-of-the-attacked"
PASSWORD = "correct horse"
ACT = {"X-Auscult": "1"}
#: What a loaded machine may take for anything, seconds; nothing here is about speed.
PATIENCE = 240
_TRANSACTIONS = itertools.count()


class Target(Plant):
    """One attacked agent; its bundle lies in `bundle`, its site's key in `key`.

    Args:
        site: Where it publishes.
        name: Of the device.
        broker: Port of a broker in the real one's stead.
        handles: Limit on file handles.
        more: Sections of the configuration, beside what every target has.
    """

    def __init__(
        self, site: Site, name: str, *, broker: int | None = None, handles: int | None = None,
        **more: dict,
    ) -> None:  # fmt: skip
        self.page, self.metrics = free_port(), free_port()

        def change(config) -> None:
            self.bundle, self.key = self.folder / "pump", self.folder / "site.key"
            make_keys(self.key, self.folder / "site.key.pub")
            self.export(counter=200)
            (self.folder / "token").write_text(f"{TOKEN}\n")
            (self.folder / "password").write_text(f"{PASSWORD}\n")
            (self.folder / "password").chmod(0o600)
            config["machines"][0]["bundle"] = str(self.bundle)
            config["bundles"] = {
                "public_key": str(self.folder / "site.key.pub"), "watch_seconds": 0.3,
                "trial_windows": 5, "trial_seconds": 15,
            }  # fmt: skip
            config["web"] = {
                "enabled": True, "port": self.page, "password_file": str(self.folder / "password"),
            }  # fmt: skip
            config["metrics"] = {"port": self.metrics}
            config["commands"] = {"token_file": str(self.folder / "token")}
            if broker is not None:
                config["mqtt"]["port"] = broker
            for section, given in more.items():
                config[section] = {**config.get(section, {}), **given}

        super().__init__(site, name, change=change, handles=handles)

    def made(self, *, threshold: float = 0.05, **manifest: object) -> Path:
        """A bundle like the site's, unsigned, beside it."""
        made = self.folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        build_bundle(made, threshold=threshold, window=WINDOW, hop=HOP)
        known = {"machine": MACHINE, **manifest}
        seal(made, read_manifest(made).model_copy(update=known))
        return made

    def sign(self, folder: Path) -> None:
        """Sign a bundle with the site's key, as whoever signs may be made to."""
        sign_folder(folder, load_private(self.key))

    def put(self, made: Path) -> None:
        """Put a bundle where the agent looks, in one step."""
        with new_bundle(self.bundle) as draft:
            shutil.copytree(made, draft, dirs_exist_ok=True)

    def export(self, **manifest: object) -> None:
        """A signed export in its place."""
        made = self.made(**manifest)
        self.sign(made)
        self.put(made)

    def ready(self) -> None:
        """Start it, and wait for the first alarms and the bundle's trial."""
        self.start()
        self.more(2, PATIENCE)
        taken = self.state / "bank" / MACHINE / "taken.json"
        wait_until(taken.is_file, PATIENCE, f"{self.name}: no bundle passed its trial")

    @contextmanager
    def operator(self):
        """Somebody at the broker, who hears all that the agent says."""
        with Subscriber(self.site.broker.port, f"auscult/{self.name}/#") as found:
            yield _Operator(self, found)

    def alarms_go_on(self) -> None:
        """New alarms are raised and arrive, whatever was done to it."""
        self.more(2, PATIENCE)
        known = set(self.raised)
        wait_until(
            lambda: known <= self.delivered(), PATIENCE, f"{self.name}: alarms do not arrive"
        )

    def closed(self) -> None:
        """End it: each event that was raised arrived, by its id, and no traceback was logged."""
        found = self.settle(PATIENCE)
        print(f"{self.name}: {found}", flush=True)
        assert (found.lost, found.disorder) == (0, 0)
        assert found.delivered == found.raised > 3

    def judged_by(self) -> dict:
        """The manifest in use, as the agent itself tells it on its page."""
        with self.browser() as client:
            return client.get("/api/info").json()

    @contextmanager
    def browser(self):
        """A browser that has given the password."""
        with httpx.Client(base_url=f"http://127.0.0.1:{self.page}", timeout=60) as client:
            client.post("/api/login", json={"password": PASSWORD}, headers=ACT)
            yield client

    def resident(self) -> int:
        """Bytes of memory that it holds."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * 4096

    def open_handles(self) -> int:
        """Files that it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))


class _Operator:
    def __init__(self, target: Target, subscriber: Subscriber) -> None:
        self.target, self.heard = target, subscriber

    def say(self, command: str, **fields: object) -> str:
        """Publish a command, and wait for no answer; its transaction."""
        transaction = f"t{next(_TRANSACTIONS)}"
        request = {"transaction": transaction, "machine": MACHINE, **fields}
        topic = f"auscult/{self.target.name}/request/{command}"
        self.heard.client.publish(topic, json.dumps(request), qos=1)
        return transaction

    def answer(self, command: str, transaction: str, seconds: float = PATIENCE) -> dict:
        return self.heard.wait(
            f"response/{command}", lambda found: found["transaction"] == transaction, seconds
        )

    def ask(self, command: str, **fields: object) -> dict:
        """Publish a command; its answer."""
        return self.answer(command, self.say(command, **fields))

    def reload(self, **fields: object) -> dict:
        return self.ask("reload", token=TOKEN, **fields)

    def settled(self, seconds: float = 2.0) -> None:
        time.sleep(seconds)

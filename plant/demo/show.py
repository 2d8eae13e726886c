"""The demo, act by act: learn, roll out, a device that dies, a bundle that is put back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from plant.demo.scene import Scene
from plant.learn.task import PlantError
from plant.rollout.plan import Plans, Rollout

_WAIT_SECONDS = 240.0


@dataclass
class Show:
    """What is shown, and whether it went as it should.

    Attributes:
        scene: The processes.
        machines: Recordings by machine.
        say: Where it is told.
    """

    scene: Scene
    machines: Mapping[str, Path]
    say: Callable[[str], None]
    began: float = field(default_factory=time.monotonic)

    def run(self) -> dict[str, Any]:
        """All of it.

        Raises:
            PlantError: Something did not go as it should.
        """
        scene = self.scene
        self._act("A key, and plant.yaml with three machines")
        self._command("keygen", "site.key")
        scene.write_plant(dict(self.machines))
        self._act("Learn all machines")
        self._command("plant", "build", scene.file)
        self._act(f"A broker ({scene.begin_broker()}), three devices without bundles, the services")
        scene.listen()
        password = scene.add_user() if scene.modern else ""
        if scene.modern:
            scene.begin("serve", "plant", "serve", scene.file)
        else:
            self.say("  (no `auscult plant serve`: it takes a broker of MQTT 5, as mosquitto)")
        scene.begin("rollout", "plant", "rollout", scene.file)
        for n, (machine, data) in enumerate(self.machines.items(), 1):
            config = scene.write_agent(f"line-{n}", machine, data / "normal")
            scene.begin(f"line-{n}", "run", "--config", config)
        self._act("Roll out: one canary, then the others")
        self._offer()
        first = self._over()
        self._require(first.state == "done", "the first rollout", first)
        self._act("The machines are learnt anew; a device dies while it takes its new bundle")
        self._learn_anew()
        self._offer("--reason", "learnt anew")
        victim = self._killed()
        second = self._over()
        self._require(second.state == "done", "the second rollout", second)
        self.say(f"  {victim} was killed, started again, and has its bundle")
        self._act("A bad bundle: learnt from the recordings of another machine")
        bad = self._bad_bundle()
        self._offer(bad, "--reason", "bad by intent")
        third = self._over()
        self._require(third.state == "put back", "the bad rollout", third)
        self.say(f"  put back: {third.why}")
        found = self._back(second)
        seconds = round(time.monotonic() - self.began)
        self.say(f"done in {seconds} s; all of it is in {scene.root}")
        return {
            "seconds": seconds,
            "killed": victim,
            "rollouts": [one.state for one in (first, second, third)],
            "why": third.why,
            "machines": found,
            "page": f"http://127.0.0.1:{scene.page_port}" if scene.modern else None,
            "password": password,
        }

    def _act(self, text: str) -> None:
        self.say(f"[{time.monotonic() - self.began:5.0f} s] {text}")

    def _command(self, *words: object, codes: tuple[int, ...] = (0,)) -> str:
        self.say("  $ auscult " + " ".join(map(str, words)))
        code, said = self.scene.auscult(*words)
        if code not in codes:
            raise PlantError(f"`auscult {words[0]}` ended with {code}: {said.strip()[-2000:]}")
        return said

    def _offer(self, *words: object) -> None:
        """Offer; a device that has only just been started may not be there yet."""
        deadline = time.monotonic() + _WAIT_SECONDS
        machines = len(self.machines)
        while True:
            if words and isinstance(words[0], Path):
                machines = 1
            if self._listening() >= len(self.machines):
                break
            self._alive(deadline)
            time.sleep(0.2)
        said = self._command("plant", "offer", self.scene.file, *words)
        lines = [line for line in said.splitlines() if "\t" in line]
        if len(lines) != machines:
            raise PlantError(f"offered to {len(lines)} machines, not {machines}: {said}")
        for line in lines:
            self.say("    " + line.expandtabs(12))

    def _listening(self) -> int:
        """Machines whose agents have said that they take offers."""
        return sum(one.online for one in self.scene.fleet.machines().values())

    def _alive(self, deadline: float) -> None:
        for name in ("broker", "rollout", *(f"line-{n + 1}" for n in range(len(self.machines)))):
            if not self.scene.alive(name):
                raise PlantError(f"{name} has ended", where=self.scene.root / f"{name}.log")
        if time.monotonic() > deadline:
            raise PlantError("this takes too long", where=self.scene.root / "rollout.log")

    def _latest(self) -> Rollout:
        return list(Plans(self.scene.root / "plant/rollouts").all())[-1]

    def _over(self) -> Rollout:
        """Wait for the latest rollout; tell each step."""
        deadline = time.monotonic() + _WAIT_SECONDS
        told: dict[str, str] = {}
        while True:
            rollout = self._latest()
            for one in rollout.targets:
                if told.get(one.device) != one.state:
                    told[one.device] = one.state
                    self.say(f"    {one.device}/{one.machine}: {one.state}")
            if rollout.state != "running":
                return rollout
            self._alive(deadline)
            time.sleep(0.3)

    def _require(self, well: bool, what: str, rollout: Rollout) -> None:
        if not well:
            raise PlantError(
                f"{what} ended as '{rollout.state}' ({rollout.why})",
                where=self.scene.root / "rollout.log",
            )

    def _learn_anew(self) -> None:
        """With half as many recordings: other bundles, as after a month of collecting."""
        smaller = {}
        for name, data in self.machines.items():
            files = sorted(path for path in (data / "normal").iterdir() if path.is_file())
            place = self.scene.root / "fewer" / name / "normal"
            place.mkdir(parents=True)
            for path in files[: max(6, 3 * len(files) // 4)]:
                (place / path.name).symlink_to(path.absolute())
            smaller[name] = place.parent
        self.scene.write_plant(smaller)
        self._command("plant", "build", self.scene.file)

    def _killed(self) -> str:
        """Kill the canary's device once it has its offer, and start it again."""
        deadline = time.monotonic() + _WAIT_SECONDS
        while not any(one.canary and one.offer for one in self._latest().targets):
            self._alive(deadline)
            time.sleep(0.05)
        name = next(one.device for one in self._latest().targets if one.canary)
        self.scene.kill(name)
        self.say(f"    {name} is killed (kill -9), and started again")
        time.sleep(1)
        self.scene.begin(name, "run", "--config", self.scene.root / name / "agent.yaml")
        return name

    def _bad_bundle(self) -> Path:
        """A bundle that says it is for the first machine, and knows the sound of the second."""
        (name, _), (_, other), *_ = self.machines.items()
        root = self.scene.root
        told = yaml.safe_load(self.scene.file.read_text())
        told |= {"out": "bad", "machines": [{"name": name, "data": str(other)}]}
        (root / "bad.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
        self._command("plant", "build", root / "bad.yaml")
        return root / "bad" / "machines" / name / f"{name}.bundle"

    def _back(self, before: Rollout) -> list[dict[str, Any]]:
        """Wait until every device runs what it ran before, and list that."""
        wanted = {one.device: one.digest for one in before.targets}
        deadline = time.monotonic() + _WAIT_SECONDS
        listed = self.scene.root / "inventory.json"
        while {one.device: one.digest for one in self.scene.fleet.machines().values()} != wanted:
            self._alive(deadline)
            time.sleep(0.2)
        self._act("Who runs what")
        self.say(self._command("plant", "inventory", self.scene.file, "--json", listed))
        machines: list[dict[str, Any]] = json.loads(listed.read_text())["machines"]
        return machines

"""Machines learnt on a Ray cluster: a node may die, what it had begun is begun anew elsewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from plant.learn.task import Outcome, PlantError, Task
from plant.learn.work import learn_machine

# How often a machine is begun anew after nodes that died under it; then it counts as failed.
_RETRIES = 5
_REMEDY = (
    "Start one with `ray start --head` (and `ray start --address=HOST:6379` on the others), or "
    "name it: --ray HOST:6379."
)


class RayCluster:
    """Learns machines on a cluster; `start` connects, `stop` leaves it.

    Recordings and `out` must be on storage that every node sees under the same path. A machine is
    put in place in one step and its record tells that it was: a task that Ray begins anew finds
    that, and does nothing twice.

    Args:
        address: `HOST:PORT` of the cluster; `auto` for the one that runs here or that RAY_ADDRESS
            names.
        cores: Cores that a machine takes.
    """

    def __init__(self, address: str, cores: int) -> None:
        self._address = address
        self._cores = cores
        self._ray: Any = None

    def start(self) -> None:
        """Connect.

        Raises:
            PlantError: There is no such cluster.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Ray hides accelerators from tasks that ask for none; training takes what is there.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        import ray  # noqa: PLC0415 - an extra

        try:
            ray.init(
                address=self._address, log_to_driver=False, logging_level=logging.ERROR,
                ignore_reinit_error=True,
            )  # fmt: skip
        except (ConnectionError, ValueError, RuntimeError) as fault:
            raise PlantError(
                f"no Ray cluster at '{self._address}': {fault}", remedy=_REMEDY
            ) from fault
        self._ray = ray

    def nodes(self) -> int:
        """How many nodes are alive."""
        return sum(bool(node["Alive"]) for node in self._ray.nodes())

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes as they come, one for each task."""
        ray = self._ray
        learn = ray.remote(num_cpus=self._cores, max_retries=_RETRIES)(_learn)
        waiting = {learn.remote(task.model_dump(mode="json")): task for task in tasks}
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            task = waiting.pop(done)
            try:
                yield Outcome.model_validate(ray.get(done))
            except ray.exceptions.RayError as fault:
                # Its node died too often, or Ray itself failed: of this machine alone.
                yield Outcome(
                    machine=task.machine,
                    state="failed",
                    reason=f"on the cluster: {str(fault).splitlines()[0]}",
                )

    def stop(self) -> None:
        """Leave the cluster; its tasks that are still running are ended by it."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None


def _learn(task: dict[str, Any]) -> dict[str, Any]:
    """What a node runs: plain values in and out."""
    return learn_machine(Task.model_validate(task)).model_dump(mode="json")

"""Where units of work run: here, in processes of this computer, or on a Ray cluster."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol, TypeVar

from agent.core.errors import ConfigError

Job = TypeVar("Job")
Result = TypeVar("Result")
_EXTRA = "pip install 'ray[default]' here and on every node, with the same Python and auscult"


class Executor(Protocol):
    """Runs a function over jobs, and gives results as they come."""

    def run(
        self, work: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result | Exception]]:
        """Each job with what came of it, in any order; a fault ends no other job."""
        ...


@dataclass(frozen=True, slots=True)
class Here:
    """One after another, in this process."""

    def run(
        self, work: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result | Exception]]:
        """As `Executor.run`."""
        for job in jobs:
            result: Result | Exception
            try:
                result = work(job)
            except Exception as fault:  # noqa: BLE001 - handed on to who asked
                result = fault
            yield job, result


@dataclass(frozen=True, slots=True)
class Processes:
    """Several processes of this computer.

    Attributes:
        count: How many.
    """

    count: int

    def run(
        self, work: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result | Exception]]:
        """As `Executor.run`. A process that dies (out of memory) fails what was not yet done."""
        # Forked after torch has made threads, a process would hang.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.count, mp_context=context)
        try:
            waiting = {pool.submit(work, job): job for job in jobs}
            for done in as_completed(waiting):
                fault = done.exception()
                if fault is not None and not isinstance(fault, Exception):
                    raise fault
                yield waiting[done], done.result() if fault is None else fault
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class RayCluster:
    """A Ray cluster whose nodes see the same paths.

    Attributes:
        address: As `ray.init` takes it: `auto`, `ray://host:10001`.
        cpus: Processors that a job asks for.
    """

    address: str
    cpus: int = 1

    def run(
        self, work: Callable[[Job], Result], jobs: Sequence[Job]
    ) -> Iterator[tuple[Job, Result | Exception]]:
        """As `Executor.run`.

        Raises:
            ConfigError: Ray is not installed, or nobody answers at the address.
        """
        ray = load_ray()
        try:
            ray.init(address=self.address)
        except (ConnectionError, ValueError, RuntimeError) as fault:
            raise ConfigError(
                f"no Ray cluster answers: {fault}",
                where=self.address,
                remedy="Start one (`ray start --head`), or leave out --ray for this computer.",
            ) from fault
        try:
            remote = ray.remote(num_cpus=self.cpus)(work)
            waiting = {remote.remote(job): job for job in jobs}
            while waiting:
                ready, _ = ray.wait(list(waiting), num_returns=1)
                result: Result | Exception
                try:
                    result = ray.get(ready[0])
                except Exception as fault:  # noqa: BLE001 - handed on to who asked
                    result = fault
                yield waiting.pop(ready[0]), result
        finally:
            ray.shutdown()


def load_ray() -> ModuleType:
    """Ray, which is no dependency of auscult's.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as fault:
        raise ConfigError(
            "Ray is not installed", where="--ray", remedy=f"{_EXTRA}, or use --jobs."
        ) from fault

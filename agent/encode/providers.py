"""Execution providers: which of those asked for this device has, and with which options.

What is set for a Jetson follows onnxruntime's documentation of both providers; it was not run on
one here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from agent.core.errors import BundleError

log = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"

#: By provider, what it is asked for unless the configuration says otherwise.
DEFAULTS: Mapping[str, Mapping[str, str]] = {
    # One window at a time beside other work on memory that the processor shares: no more than is
    # asked for, and no minutes of search for the fastest convolution at each start.
    CUDA: {
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "do_copy_in_default_stream": "1",
    },
    # Building an engine takes minutes: it is kept beside the state, and so is what timing found.
    TENSORRT: {
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_timing_cache_enable": "1",
        "trt_builder_optimization_level": "3",
    },
}
# Options that name TensorRT's folder of engines, which is the device's own.
_CACHES = ("trt_engine_cache_path", "trt_timing_cache_path")


def choose_providers(
    wanted: Sequence[str], there: Sequence[str], *, where: Path
) -> tuple[str, ...]:
    """The wanted execution providers that are there, in the order wanted.

    Args:
        wanted: The preferred first.
        there: What onnxruntime has on this device.
        where: The graph, for the notice.

    Raises:
        BundleError: None is there.
    """
    found = tuple(name for name in wanted if name in there)
    absent = [name for name in wanted if name not in there]
    if not found:
        raise BundleError(
            f"onnxruntime has no execution provider {', '.join(sorted(absent))}",
            where=where,
            remedy=f"This device offers {', '.join(there)}.",
        )
    if absent:
        log.warning(
            "onnxruntime has no %s here; %s is run by %s", ", ".join(absent), where, found[0]
        )
    return found


def options_of(
    provider: str, given: Mapping[str, Mapping[str, str]], cache: Path | None = None
) -> dict[str, str]:
    """A provider's options: the defaults, and what the configuration gives over them.

    Args:
        provider: Its name.
        given: By provider, what the configuration gives.
        cache: Folder for engines; without one none are kept.
    """
    found = dict(DEFAULTS.get(provider, {}))
    if provider == TENSORRT:
        if cache is None:
            found = {name: value for name, value in found.items() if "cache" not in name}
        else:
            found |= dict.fromkeys(_CACHES, str(cache))
    return found | dict(given.get(provider, {}))


def tell_fallback(asked: Sequence[str], used: Sequence[str], *, where: Path) -> None:
    """A notice of providers that are installed, but did not begin (no device, no driver)."""
    failed = [name for name in asked if name not in used]
    if failed:
        log.warning(
            "%s did not begin (no device, or no driver for it); %s is run by %s",
            ", ".join(failed), where, ", ".join(used),
        )  # fmt: skip

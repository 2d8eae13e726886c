"""Runs the bundle's ONNX graph: raw waveform in, embedding out, nothing but onnxruntime needed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from agent.bundle.manifest import BODY, FRAMES, EncoderInfo
from agent.config.encode import InferenceConfig
from agent.core.cores import usable_cores
from agent.core.errors import BundleError
from agent.core.memory import give_back
from agent.core.records import Matrix, Samples
from agent.encode.arena import share_arena
from agent.encode.frames import BOUNDARY, FrameLayout, Frames, layout_of
from agent.encode.providers import CPU, choose_providers, options_of, tell_fallback
from agent.encode.sessions import session_of, turns

# The output that only explanations ask for, when the graph has it.
PATCHES = "patches"
_REBUILD = "Export the bundle again with `auscult export`."


class OnnxEncoder:
    """An exported encoder in an onnxruntime session.

    `encode` may be called from several threads at once, so machines that use the same bundle can
    share one encoder.

    Args:
        path: The graph, `encoder.onnx`.
        info: What the manifest says it takes and gives; `start` holds the graph to it.
        threads: Threads one inference may use; what `inference` says when None.
        inference: How to run it.
        cache: Folder for what an execution provider makes of the graph; None keeps nothing.
        framed: Whether the graph lies there in two parts as well, for windows that overlap.
        shown: The graph's file as messages name it; `path` when None. The one at `path` is only
            read by `start`.
        digests: Of each graph's files by its name; encoders share the sessions of those that are
            the same. Of one that isn't named no session is shared.
    """

    def __init__(
        self,
        path: Path,
        info: EncoderInfo,
        *,
        threads: int | None = None,
        inference: InferenceConfig | None = None,
        cache: Path | None = None,
        framed: bool = False,
        shown: Path | None = None,
        digests: Mapping[str, str] | None = None,
    ) -> None:
        self._digests = digests or {}
        self.path = shown or path
        self._file = path
        self._info = info
        self._how = inference or InferenceConfig()
        self._threads = threads or self._how.threads
        self._cache = cache
        # Each inference under way takes its own memory; more at once than cores gain nothing.
        self._turn = turns(max(1, usable_cores() // self._threads))
        self._session: Any = None
        self._framed = framed
        self._parts: tuple[Any, Any] | None = None
        self._layout: FrameLayout | None = None
        self._input = ""
        self._output = ""
        self._whole_ran = False
        self._tidying: Any = None  # options of a run that gives the working memory back
        self._asked_alone = onnxruntime.RunOptions()
        # What leads to the other output alone is left out.
        self._asked_alone.only_execute_path_to_fetches = True

    @property
    def info(self) -> EncoderInfo:
        """What the graph takes and gives."""
        return self._info

    @property
    def provider(self) -> str:
        """The execution provider that runs it, once started."""
        return str(self._session.get_providers()[0]) if self._session is not None else ""

    def start(self) -> None:
        """Load the graph, hold it to the manifest, and run it once (also warms it up).

        Raises:
            BundleError: The graph does not load or run, its shapes are not the manifest's, or an
                execution provider is not installed.
        """
        if self._session is not None:
            return
        session = self._open(self._file.name)
        self._input, self._output = self._agree(session)
        self._session = session
        try:
            if self._framed:
                self._start_parts()
            # Noise, not silence: zeros take short cuts (and denormals) that real sound does not.
            noise = np.random.default_rng(0).normal(0, 0.01, (1, self._info.window_samples))
            self.encode(noise.astype(np.float32))
        except BundleError:
            self.stop()
            raise

    def _open(self, name: str) -> Any:
        """A session with a graph: another encoder's of the same files, run the same way."""
        digest = self._digests.get(name)
        how = (digest, self._threads, self._how.model_dump_json(), self._cache)
        return session_of(how if digest else None, lambda: self._make(name))

    def _make(self, name: str) -> Any:
        path = self.path.with_name(name)
        providers = choose_providers(
            self._how.providers, onnxruntime.get_available_providers(), where=path
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        # One small inference a second: threads that spin for work in between cost about five
        # times the processor time of the inference itself.
        spinning = str(int(self._how.spinning))
        options.add_session_config_entry("session.intra_op.allow_spinning", spinning)
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        # Planned ahead, mn04 takes 18 MB more and no less time (docs/notes/speed.md).
        options.enable_cpu_mem_arena = self._how.arena
        options.enable_mem_pattern = self._how.memory_pattern
        if self._how.arena and providers == (CPU,):
            share_arena(options)
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                str(self._file.with_name(name)),
                sess_options=options,
                providers=list(providers),
                provider_options=[
                    options_of(one, self._how.provider_options, self._cache) for one in providers
                ],
            )
        except Exception as fault:  # onnxruntime's errors share no base class
            raise BundleError(
                f"is not a graph this onnxruntime ({onnxruntime.__version__}) can run: {fault}",
                where=path,
                remedy=_REBUILD,
            ) from fault
        tell_fallback(providers, session.get_providers(), where=path)
        return session

    def _start_parts(self) -> None:
        """Load the graph's two parts, and hold them to the manifest."""
        front, body = (self._open(name) for name in (FRAMES, BODY))
        where = self.path.with_name(FRAMES)
        try:
            layout = layout_of(front.get_modelmeta().custom_metadata_map)
        except ValueError as fault:
            raise BundleError(str(fault), where=where, remedy=_REBUILD) from fault
        if layout.count * layout.hop != self._info.window_samples:
            raise BundleError(
                f"its {layout.count} frames of {layout.hop} samples are no window of "
                f"{self._info.window_samples} (encoder.window_samples)",
                where=where,
                remedy=_REBUILD,
            )
        self._layout, self._parts = layout, (front, body)
        if self._how.arena and body.get_providers() == [CPU]:
            self._tidying = onnxruntime.RunOptions()
            self._tidying.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    @property
    def layout(self) -> FrameLayout | None:
        """How frames lie, which overlapping windows share; None where they cannot share any."""
        return self._layout

    def frames(self, chunks: Matrix) -> Frames:
        """Frames of chunks of sound.

        Args:
            chunks: float32, shape `(n, frames * layout.hop)`; of how many frames, the layout says.

        Returns:
            float32, shape `(n, ..., frames)`.

        Raises:
            BundleError: The graph fails.
        """
        assert self._parts is not None
        front, _ = self._parts
        return self._run_part(front, {front.get_inputs()[0].name: chunks}, FRAMES)

    def embed_frames(self, frames: Frames, waveform: Samples) -> Matrix:
        """Embedding of a window's frames.

        Args:
            frames: float32, shape `(1, ..., layout.count)`.
            waveform: The window, float32 `(window_samples,)`, of which some encoders make more.

        Returns:
            float32, shape `(1, dim)`.

        Raises:
            BundleError: The graph fails.
        """
        assert self._parts is not None
        _, body = self._parts
        feed = {
            one.name: frames if one.name == BOUNDARY else waveform[None]
            for one in body.get_inputs()
        }
        return self._run_part(body, feed, BODY)

    def _run_part(self, session: Any, feed: dict[str, Any], name: str) -> Frames:
        # The whole graph, which is run at times, works in three times the memory of its parts.
        after_whole, self._whole_ran = self._whole_ran, False
        options = self._tidying if after_whole else None
        try:
            with self._turn:
                (result,) = session.run(None, feed, options)
        except Exception as fault:  # onnxruntime's errors share no base class
            raise BundleError(
                f"the graph failed: {fault}", where=self.path.with_name(name), remedy=_REBUILD
            ) from fault
        if options is not None:
            give_back()
        return np.asarray(result, np.float32)

    def _agree(self, session: Any) -> tuple[str, str]:
        """Names of the input and output, once their shapes agree with the manifest's."""
        inputs = session.get_inputs()
        outputs = [one for one in session.get_outputs() if one.name != PATCHES]
        if len(inputs) != 1 or len(outputs) != 1:
            raise BundleError(
                f"has {len(inputs)} inputs and {len(outputs)} outputs, not one of each",
                where=self.path,
                remedy=_REBUILD,
            )
        wanted = {
            "input": (inputs[0], self._info.window_samples, "window_samples"),
            "output": (outputs[0], self._info.dim, "dim"),
        }
        for name, (value, length, field) in wanted.items():
            shape = value.shape
            # A dimension without a fixed length is a name or None; the trial run settles it.
            fits = len(shape) == 2 and (not isinstance(shape[1], int) or shape[1] == length)
            if not fits or value.type != "tensor(float)":
                raise BundleError(
                    f"its {name} is {value.type} {shape}, but the manifest says float32 "
                    f"(batch, {length}) (encoder.{field})",
                    where=self.path,
                    remedy=_REBUILD,
                )
        return inputs[0].name, outputs[0].name

    def encode(self, waveforms: Matrix) -> Matrix:
        """Embed a batch of windows.

        Args:
            waveforms: float32, shape `(batch, window_samples)`, full scale 1.0, at the manifest's
                sample rate.

        Returns:
            float32, shape `(batch, dim)`.

        Raises:
            ValueError: The waveforms have another shape, or the encoder is not started.
            BundleError: The graph fails, or gives another shape than the manifest says.
        """
        self._accept(waveforms)
        if len(waveforms) == 0:
            return np.empty((0, self._info.dim), np.float32)
        # One by one. INT8 graphs that measure ranges as they run measure them over all that they
        # are given, and a window's embedding must not depend on those beside it: the bank's
        # windows come in batches, the device's never. It is also no slower (docs/notes/speed.md).
        embeddings = np.concatenate([self._run(self._output, one[None]) for one in waveforms])
        if embeddings.shape != (len(waveforms), self._info.dim):
            raise BundleError(
                f"gave an embedding of shape {embeddings.shape} where the manifest says "
                f"{(len(waveforms), self._info.dim)} (encoder.dim)",
                where=self.path,
                remedy=_REBUILD,
            )
        return embeddings

    def patches(self, waveform: Matrix) -> Matrix | None:
        """What the encoder makes of each place of a window (see agent/explain/patches.py).

        Args:
            waveform: float32, shape `(window_samples,)`.

        Returns:
            float32, shape `(time, rows, width)`; None when the graph does not give them.

        Raises:
            ValueError: As `encode`.
            BundleError: The graph fails, or gives another shape.
        """
        self._accept(waveform[None])
        if PATCHES not in {one.name for one in self._session.get_outputs()}:
            return None
        found = self._run(PATCHES, waveform[None])
        if found.ndim != 4 or len(found) != 1:
            raise BundleError(
                f"gave patches of shape {found.shape}", where=self.path, remedy=_REBUILD
            )
        first: Matrix = found[0]
        return first

    def _accept(self, waveforms: Matrix) -> None:
        if self._session is None:
            raise ValueError("the encoder is not started")
        if waveforms.ndim != 2 or waveforms.shape[1] != self._info.window_samples:
            raise ValueError(
                f"waveforms have shape {waveforms.shape}, "
                f"the encoder takes (batch, {self._info.window_samples})"
            )

    def _run(self, output: str, waveforms: Matrix) -> Matrix:
        feed = {self._input: np.ascontiguousarray(waveforms, np.float32)}
        try:
            with self._turn:
                self._whole_ran = True
                (result,) = self._session.run([output], feed, self._asked_alone)
        except Exception as fault:  # onnxruntime's errors share no base class
            raise BundleError(
                f"the graph failed: {fault}",
                where=self.path,
                remedy=_REBUILD,
            ) from fault
        return np.asarray(result, np.float32)

    def stop(self) -> None:
        """Free the sessions. `start` makes new ones."""
        self._session = self._parts = self._layout = self._tidying = None

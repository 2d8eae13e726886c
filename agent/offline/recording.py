"""A recording on its way to a bundle: in blocks, held against the conditions of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.bundle.manifest import Manifest
from agent.capture.files import AudioInfo, audio_info, stream_audio
from agent.capture.guard import check_decodes
from agent.chain.stream import StreamMeter
from agent.core.levels import LevelRange
from agent.core.records import ChannelFault, Matrix, Samples, Validity
from agent.window.channels import ChannelMeter
from agent.window.conditions import Difference, compare_conditions, unfit
from agent.window.validity import MIN_SECONDS, level_dbfs


class OpenRecording:
    """A recording that can be decoded, as often as asked.

    Args:
        path: The file.
        manifest: Of the bundle that hears it.
        channel: Channel asked for; None for that of training, or the average.
        info: Its header.
    """

    def __init__(
        self, path: Path, manifest: Manifest, channel: int | None, info: AudioInfo
    ) -> None:
        self._path = path
        self._manifest = manifest
        self._info = info
        self.seconds = info.seconds
        trained = None if manifest.conditions is None else manifest.conditions.channel
        # Of a file with one channel that is the one that training chose.
        self.channel = trained if channel is None and info.channels > 1 else channel
        self._sound = StreamMeter(info.rate)
        self._channels = ChannelMeter(info.rate)
        self._differences: list[Difference] | None = None

    def blocks(self) -> Iterator[Samples]:
        """The recording's sound at the encoder's rate, float32 `(n,)` each.

        Raises:
            AudioError: It has no such channel, or cannot be decoded.
        """
        self._sound, self._channels = StreamMeter(self._info.rate), ChannelMeter(self._info.rate)
        self._differences = None
        rate = self._manifest.encoder.sample_rate
        return stream_audio(self._path, rate=rate, channel=self.channel, watch=self._watch)

    def _watch(self, frames: Matrix) -> None:
        self._sound.push(frames.mean(axis=1))
        self._channels.push(frames)

    def differences(self) -> list[Difference]:
        """What is otherwise than in training. Once read; of its levels see `unfit_level`."""
        if self._differences is None:
            self._differences = self._compared()
        return self._differences

    def _compared(self) -> list[Difference]:
        facts, manifest = self._sound.facts(), self._manifest
        trained = manifest.conditions
        faults: tuple[ChannelFault, ...] = ()
        if self.channel is None:
            faults = self._channels.faults(None if trained is None else trained.channel_levels_db)
        return compare_conditions(
            trained,
            channels=self._info.channels,
            channel=self.channel,
            rate=self._info.rate,
            codec=self._info.codec,
            bandwidth_hz=None if facts is None else facts.bandwidth_hz,
            seconds=self.seconds,
            window_seconds=manifest.window_seconds,
            encoder_rate=manifest.encoder.sample_rate,
            faults=faults,
        )

    def notes(self) -> list[str]:
        """What its header wrongly claimed, and what differs from training. Once read."""
        told = [one.text for one in self.differences() if one.validity is Validity.VALID]
        return [self._info.note] * bool(self._info.note) + told

    def fault(self) -> str:
        """Why the average of its channels says nothing; empty when it does. Once read."""
        return "; ".join(
            one.text
            for one in self.differences()
            if one.fault is not None and one.validity is not Validity.VALID
        )

    def too_short(self) -> str:
        """Why it is too short to be judged, known before it is read; empty when it isn't."""
        return too_short(self._manifest, self.seconds)


def too_short(manifest: Manifest, seconds: float) -> str:
    """Why a recording of such a length is not judged; empty when it is.

    Args:
        manifest: Of the bundle that would hear it.
        seconds: Its length. From a window's length on, every recording is long enough.
    """
    if seconds >= manifest.window_seconds:
        return ""
    if seconds < MIN_SECONDS:
        return f"{seconds:.2f} s of sound, at least {MIN_SECONDS:g} s needed"
    found = unfit(
        compare_conditions(
            manifest.conditions, seconds=seconds, window_seconds=manifest.window_seconds
        )
    )
    return "" if found is None else found.text


def unfit_level(manifest: Manifest, window: Samples) -> tuple[Validity, str]:
    """Whether a window's level is far from all that training had, and why it is not judged then.

    Args:
        manifest: Of the bundle that hears it; an older one judges every level.
        window: float32, shape `(window_samples,)`, of the running machine.
    """
    if manifest.conditions is None:
        return Validity.VALID, ""
    found = unfit(
        compare_conditions(
            manifest.conditions,
            level_dbfs=level_dbfs(window),
            levels=LevelRange(manifest.trained_on.level_dbfs),
        )
    )
    return (Validity.VALID, "") if found is None else (found.validity, found.text)


def open_recording(path: Path, manifest: Manifest, channel: int | None) -> OpenRecording:
    """See that a recording can be decoded.

    Args:
        path: The file.
        manifest: Of the bundle that hears it.
        channel: Channel asked for; None for that of training, or the average.

    Raises:
        AudioError: It cannot.
    """
    check_decodes(path, channel)
    return OpenRecording(path, manifest, channel, audio_info(path))

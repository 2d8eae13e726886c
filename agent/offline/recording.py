"""A recording on its way to a bundle: in blocks, held against the conditions of training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from agent.bundle.manifest import Manifest
from agent.capture.files import AudioInfo, audio_info, stream_audio
from agent.capture.guard import check_decodes
from agent.chain.stream import StreamMeter
from agent.core.records import Matrix, Samples
from agent.window.channels import ChannelMeter
from agent.window.conditions import compare_conditions


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

    def blocks(self) -> Iterator[Samples]:
        """Its sound at the encoder's rate, float32 `(n,)` each.

        Raises:
            AudioError: It has no such channel, or cannot be decoded.
        """
        self._sound, self._channels = StreamMeter(self._info.rate), ChannelMeter(self._info.rate)
        rate = self._manifest.encoder.sample_rate
        return stream_audio(self._path, rate=rate, channel=self.channel, watch=self._watch)

    def _watch(self, frames: Matrix) -> None:
        self._sound.push(frames.mean(axis=1))
        self._channels.push(frames)

    def notes(self) -> list[str]:
        """What is otherwise than in training, and what its header wrongly claimed; once read."""
        facts = self._sound.facts()
        found = compare_conditions(
            self._manifest.conditions,
            channels=self._info.channels,
            channel=self.channel,
            rate=self._info.rate,
            bandwidth_hz=None if facts is None else facts.bandwidth_hz,
            encoder_rate=self._manifest.encoder.sample_rate,
        )
        return [self._info.note] * bool(self._info.note) + [one.text for one in found]

    def fault(self) -> str:
        """Why the average of its channels says nothing; empty when it does. Once read."""
        trained = self._manifest.conditions
        if trained is None or self.channel is not None:
            return ""
        return "; ".join(one.text for one in self._channels.faults(trained.channel_levels_db))


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

"""Conditions of training are conditions of use: what differs is told, or makes sound unfit.

`score`, `evaluate`, `bank`, `drift` and the agent all ask `compare_conditions`, each with what it
knows: of a file all of it, of a window of a stream its level and channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.bundle.facts import ConditionsInfo
from agent.core.levels import LevelRange
from agent.core.records import ChannelFault, Validity
from agent.window.channel_watch import channel_verdict

# How much shorter than training's shortest recording one may be.
_SHORTER = 0.8
# Band edges this far from those of training are another resampler's or codec's.
_EDGE = 0.05
# Edges in this share of the encoder's band and above are one: there every resampler to its rate
# has its own.
_SHAPED = 0.9
_LOSSY = ("mp3", "aac", "opus", "vorbis", "mpeg", "wma", "amr", "ac3", "layer_iii", "mp2")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where sound differs from what the bundle was trained on.

    Attributes:
        kind: `channels`, `fault` (of one of them), `rate`, `codec`, `bandwidth`, `length` or
            `level`.
        text: In words.
        validity: VALID where it is only told; else why the sound is not judged.
        fault: Of a channel that is averaged.
    """

    kind: str
    text: str
    validity: Validity = Validity.VALID
    fault: ChannelFault | None = None


def compare_conditions(
    trained: ConditionsInfo | None,
    *,
    channels: int | None = None,
    channel: int | None = None,
    rate: int | None = None,
    codec: str = "",
    bandwidth_hz: float | None = None,
    seconds: float | None = None,
    window_seconds: float = 0.0,
    encoder_rate: int = 0,
    level_dbfs: float | None = None,
    levels: LevelRange | None = None,
    faults: Sequence[ChannelFault] = (),
    live: bool = False,
) -> list[Difference]:
    """Hold sound against the conditions of training.

    What is None, or left out, isn't known and is held against nothing.

    Args:
        trained: The manifest's; None, of older bundles, is held against nothing.
        channels: Channels of the sound, where known.
        channel: Channel used; None for the average.
        rate: Its rate, Hz.
        codec: How it is written, as `AudioInfo.codec` has it; empty for a stream.
        bandwidth_hz: Up to where it holds sound.
        seconds: Its length; None for a stream.
        window_seconds: What the encoder hears at once.
        encoder_rate: Rate at which the encoder hears, Hz.
        level_dbfs: RMS level of a window without its constant part.
        levels: Levels at which a window may be judged.
        faults: What is wrong with the channels that are averaged.
        live: It comes from a microphone, see `channel_verdict`.
    """
    found = []
    if level_dbfs is not None and levels is not None:
        validity, reason = levels.judge(level_dbfs)
        if validity is not Validity.VALID:
            found.append(Difference("level", reason, validity))
    bad, told = channel_verdict(faults, trained, live=live)
    found += [Difference("fault", one.text, one.validity, one) for one in bad]
    found += [Difference("fault", one.text, fault=one) for one in told]
    if trained is None:
        return found
    averaged = channels is not None and channels > 1 and channel is None
    if averaged and trained.channels and channels not in trained.channels:
        usual = ", ".join(map(str, trained.channels))
        found.append(
            Difference(
                "channels",
                f"{channels} channels are averaged, where training had {usual}: choose one with "
                "--channel",
            )
        )
    if rate is not None and trained.sample_rates and rate not in trained.sample_rates:
        usual = ", ".join(f"{one} Hz" for one in trained.sample_rates)
        found.append(
            Difference(
                "rate",
                f"recorded at {rate} Hz, training at {usual}: what resampled it shapes its upper "
                "band, which may count as a change",
            )
        )
    if trained.codecs and is_lossy(codec) and not any(map(is_lossy, trained.codecs)):
        found.append(
            Difference(
                "codec",
                f"compressed with loss ({codec}), which no training recording was: what that takes "
                "away and adds may count as a change",
            )
        )
    if bandwidth_hz is not None and trained.bandwidth_range_hz is not None:
        nyquist = encoder_rate / 2 if encoder_rate else float("inf")
        low, high = (min(edge, _SHAPED * nyquist) for edge in trained.bandwidth_range_hz)
        edge = min(bandwidth_hz, _SHAPED * nyquist)
        if edge < low * (1 - _EDGE) or edge > high * (1 + _EDGE):
            heard, widest = min(bandwidth_hz, nyquist), min(trained.bandwidth_range_hz[1], nyquist)
            found.append(
                Difference(
                    "bandwidth",
                    f"holds sound up to {heard / 1000:.3g} kHz, training up to "
                    f"{widest / 1000:.3g} kHz: that counts as a change of the machine",
                )
            )
    if seconds is not None and trained.clip_seconds is not None:
        shortest = trained.clip_seconds[0]
        least = _SHORTER * min(shortest, window_seconds or shortest)
        if seconds < least:
            found.append(
                Difference(
                    "length",
                    f"{seconds:.2g} s of sound, where training had {shortest:.3g} s and more: "
                    f"repeated to fill {window_seconds:g} s it would sound like no recording that "
                    "was learnt",
                    Validity.TOO_SHORT,
                )
            )
    return found


def is_lossy(codec: str) -> bool:
    """Whether a codec throws away what it thinks nobody hears."""
    return any(word in codec.lower() for word in _LOSSY)


def unfit(differences: Iterable[Difference]) -> Difference | None:
    """The first difference for which sound is not judged; None when it is."""
    return next((one for one in differences if one.validity is not Validity.VALID), None)

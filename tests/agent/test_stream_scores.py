"""A stream's windows, whose frames are shared at whatever hop, against the same windows whole."""

from __future__ import annotations

import numpy as np
import pytest

from agent.capture.files import read_audio
from agent.core.records import AudioBlock
from agent.encode.frames import SharedFrames
from agent.encode.onnx import OnnxEncoder
from agent.learn.encoders import GRAPHS, RECORD, ShippedEncoder
from agent.window.rolling import Due, RollingWindow


@pytest.fixture
def encoder():
    folder = GRAPHS / "auscult_scratch"
    record = ShippedEncoder.model_validate_json((folder / RECORD).read_bytes())
    made = OnnxEncoder(folder / "encoder.onnx", record.encoder, framed=True)
    made.start()
    yield made
    made.stop()


def stream(shared, rate):
    """Real machines one after the other, and a gap."""
    data = shared / "data"
    places = [
        *sorted((data / "dcase2023" / "ToyCar" / "train").glob("*.flac"))[:2],
        *sorted((data / "mimii_fan00" / "test" / "anomaly").glob("*"))[:1],
        *sorted((data / "motors" / "class1").glob("*.flac"))[:2],
    ]
    sound = np.concatenate([read_audio(place, rate=rate) for place in places])
    size = rate // 4
    for number, start in enumerate(range(0, len(sound), size)):
        at = start / rate
        yield AudioBlock(sound[start : start + size], rate, at, at, gap_before=number == 120)


@pytest.mark.shared
def test_real_windows_are_embedded_alike_in_a_stream_and_alone(shared, encoder):
    info = encoder.info
    rate, size = info.sample_rate, info.window_samples
    # As `hop: auto` takes them: close, wide apart, close again.
    near = {*range(10, 16), *range(24, 29), *range(40, 60)}

    def pace(end):
        second = end // rate
        return Due.YES if second in near or second % 5 == 0 else Due.NO

    rolling, frames, taken = RollingWindow(size, rate, rate, pace), SharedFrames(), []
    for block in stream(shared, rate):
        taken += rolling.push(block)
    assert {1, 5} <= set(np.diff([one.position // rate for one in taken]))
    shared_way = np.stack([frames.encode(encoder, one) for one in taken])
    whole = encoder.encode(np.stack([one.samples for one in taken]))
    # All of it is in dB (`sound_views`). Products of another size add in another order, which
    # float32 rounds by a millionth or so: of a band 90 dB below the loudest, less than this.
    assert np.abs(shared_way - whole).max() < 0.01
    cosines = (shared_way * whole).sum(1) / np.sqrt((shared_way**2).sum(1) * (whole**2).sum(1))
    assert cosines.min() > 1 - 1e-6

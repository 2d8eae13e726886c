"""The graph in two parts: its embeddings are the whole graph's, or there are no parts."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from agent.bundle.manifest import BODY, FRAMES
from agent.core.errors import BundleError
from agent.core.records import AudioBlock
from agent.encode.frames import BOUNDARY, SharedFrames
from agent.encode.onnx import OnnxEncoder
from agent.window.rolling import RollingWindow
from export.framed import LEAST_COSINE, write_parts
from export.quantize import quantize_static
from trainer.encoders.base import Encoder, Framing
from trainer.encoders.joined import Joined
from trainer.encoders.mn04 import MelFrontEnd
from trainer.encoders.shape import SpectralShape
from trainer.graph.encoder_info import encoder_info
from trainer.graph.frames import CHUNK, export_frames
from trainer.graph.onnx_graph import INPUT, OPSET, cosines, export_graph

RATE, HOP = 32000, 320
SECONDS = 1.2
# Of mn04's front end.
HEAD, TAIL = 2, 1
# Hops of windows, in frames: one frame, several, a whole chunk and more, almost all of a window.
STEPS = (1, 25, CHUNK, 50, 100)


class Listener(Encoder):
    """The mel bands of mn04, and two small convolutions, which hear every frame."""

    def __init__(self, *, seconds=SECONDS, head=HEAD, tail=TAIL):
        super().__init__()
        self.kind, self.sample_rate, self.dim = "listener", RATE, 12
        self.window_samples = round(seconds * RATE)
        self.edges = (head, tail)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.front_end = MelFrontEnd()
            self.first = nn.Conv2d(1, 6, 3, stride=(4, 1), padding=1)
            self.second = nn.Conv2d(6, self.dim, 3, stride=(4, 1), padding=1)
        self.eval()

    @property
    def framing(self):
        head, tail = self.edges
        return Framing(self.front_end, hop=HOP, head=head, tail=tail)

    def forward(self, waveform):
        cells = self.second(torch.relu(self.first(self.front_end(waveform))))
        return cells.amax(dim=(2, 3))


def joined(**how):
    """With an encoder that makes something else of the same waveform, at another rate."""
    shape = SpectralShape(window_seconds=SECONDS)
    parts = [shape, Listener(**how)]
    return Joined(parts, window_seconds=SECONDS, unit=True, together=False).eval()


def sound(samples, seed=0):
    """Noise that changes a hundred times a second, so that no two frames are alike."""
    random = np.random.default_rng(seed)
    level = np.repeat(random.uniform(0.01, 0.1, samples // HOP + 1), HOP)[:samples]
    return (level * random.normal(0, 1, samples)).astype(np.float32)


def real_windows(encoder, count=4):
    return sound(count * encoder.window_samples).reshape(count, -1)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return export_graph(joined(), tmp_path_factory.mktemp("graph") / "float.onnx")


@pytest.fixture(scope="module", params=["float32", "int8"])
def running(request, graph, tmp_path_factory):
    """An encoder whose graph lies there in parts too."""
    encoder, place = joined(), tmp_path_factory.mktemp(request.param) / "encoder.onnx"
    info = encoder_info(encoder, request.param, OPSET)
    if request.param == "int8":
        quantize_static(graph, place, real_windows(encoder), info, min_cosine=-3.0)
    else:
        shutil.copy(graph.path, place)
    assert write_parts(encoder, place, info, real_windows(encoder))
    found = OnnxEncoder(place, info, framed=True)
    found.start()
    yield found
    found.stop()


def windows(info, step, *blocks):
    rolling = RollingWindow(info.window_samples, step, info.sample_rate)
    found = []
    for samples, gap in blocks:
        found += rolling.push(AudioBlock(samples, info.sample_rate, 0.0, 0.0, gap_before=gap))
    return found


def compare(encoder, stream):
    """The least cosine of an embedding by shared frames to that of the whole graph."""
    shared = SharedFrames()
    by_frames = np.stack([shared.encode(encoder, window) for window in stream])
    whole = np.concatenate([encoder.encode(window.samples[None]) for window in stream])
    return cosines(by_frames, whole).min()


@pytest.mark.parametrize("step", STEPS)
def test_embeddings_are_those_of_the_whole_graph_at_any_hop(running, step):
    info = running.info
    stream = windows(info, step * HOP, (sound(info.window_samples + 4 * step * HOP, step), False))
    assert len(stream) == 5
    assert compare(running, stream) > LEAST_COSINE


def test_a_gap_and_another_sound_share_nothing(running):
    info = running.info
    long = 2 * info.window_samples
    stream = windows(info, 25 * HOP, (sound(long), False), (sound(long, 1), True))
    assert len(stream) > 6
    assert compare(running, stream) > LEAST_COSINE


def test_only_new_frames_are_computed(running, monkeypatch):
    made = []
    real = running.frames
    monkeypatch.setattr(
        running, "frames", lambda chunks: made.append(chunks.shape[1] // HOP) or real(chunks)
    )
    info = running.info
    stream = windows(info, 10 * HOP, (sound(2 * info.window_samples), False))
    shared = SharedFrames()
    for window in stream:
        shared.encode(running, window)
    # All frames of the first window, then of each its beginning's edge and the new ones.
    edge, new = HEAD + TAIL, HEAD + 10 + TAIL
    assert made[:2] == [edge, info.window_samples // HOP]
    assert made[2:] == (len(stream) - 1) * [edge, new]


def test_the_body_holds_no_front_end(running):
    front, body = (onnx.load(running.path.with_name(name)) for name in (FRAMES, BODY))
    assert [one.name for one in front.graph.output] == [BOUNDARY]
    # The other encoder asks for the waveform itself.
    assert {one.name for one in body.graph.input} == {BOUNDARY, INPUT}
    whole = onnx.load(running.path)
    assert len(body.graph.node) < len(whole.graph.node) - 20


@pytest.mark.parametrize(
    ("encoder", "told"),
    [
        (SpectralShape(window_seconds=SECONDS), False),  # makes no frames to share
        (Listener(seconds=SECONDS + 0.005), False),  # no whole number of frames
        (Listener(seconds=(CHUNK - 1) * HOP / RATE), False),  # shorter than a chunk
        (joined(head=0, tail=0), True),  # its frames reach further than it says
    ],
)
def test_no_parts_are_left_of_what_cannot_share(graph, encoder, told, tmp_path, caplog):
    place = tmp_path / "encoder.onnx"
    shutil.copy(graph.path, place)
    info = encoder_info(encoder, "float32", OPSET)
    assert not write_parts(encoder, place, info, real_windows(encoder))
    assert [one.name for one in place.parent.iterdir()] == [place.name]
    assert ("would differ" in caplog.text) == told


def test_a_front_end_written_for_one_length_takes_chunks_of_that_alone(tmp_path):
    class OneLength(nn.Module):
        def forward(self, waveform):
            return waveform.reshape(len(waveform), 4, CHUNK, HOP // 4).mean(dim=3)

    listener = Listener()
    listener.front_end = OneLength()
    export_frames(listener, tmp_path / FRAMES)
    numbers = {one.key: one.value for one in onnx.load(tmp_path / FRAMES).metadata_props}
    assert (numbers["chunk"], numbers["least"]) == (str(CHUNK), "0")
    export_frames(Listener(), tmp_path / FRAMES)
    numbers = {one.key: one.value for one in onnx.load(tmp_path / FRAMES).metadata_props}
    assert numbers["least"] == str(HEAD + TAIL)


def test_parts_of_another_window_are_refused(running, tmp_path):
    for path in running.path.parent.iterdir():
        shutil.copy(path, tmp_path)
    front = onnx.load(tmp_path / FRAMES)
    for entry in front.metadata_props:
        entry.value = "100" if entry.key == "count" else entry.value
    onnx.save(front, tmp_path / FRAMES)
    other = OnnxEncoder(tmp_path / "encoder.onnx", running.info, framed=True)
    with pytest.raises(BundleError, match="100 frames of 320 samples are no window of 38400"):
        other.start()

"""Several encoders as one graph: each hears what it would hear alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import soxr
import torch

from agent.bundle.manifest import BODY, FRAMES
from agent.config.scorer import FusionConfig, place_columns
from agent.core.errors import ConfigError
from agent.encode.frames import layout_of
from agent.learn.embed import embed
from agent.recordings.model import Machine
from export.framed import write_parts
from trainer.encoder_config import EncoderConfig
from trainer.encoders.joined import Joined
from trainer.encoders.mn04 import Mn04
from trainer.encoders.registry import build_encoder
from trainer.encoders.resample import Resampler
from trainer.encoders.views import SoundViews
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, export_graph, verify_parity
from trainer.learn import train_machine
from trainer.preset import Preset

SECONDS = 2.0


def config(**fields) -> EncoderConfig:
    return EncoderConfig.model_validate(
        {
            "kind": "joined",
            "parts": [
                {"kind": "spectral_shape"},
                {"kind": "muq", "size": "tiny"},
                {"kind": "dasheng", "size": "tiny"},
            ],
            **fields,
        }
    )


def sound(rate: int, seconds: float = SECONDS) -> np.ndarray:
    """Tones and noise below 7 kHz, with a beginning and an end that are quiet."""
    rng = np.random.default_rng(0)
    wide = rng.normal(0, 0.1, round(seconds * 96000))
    band = np.fft.rfft(wide)
    band[np.fft.rfftfreq(len(wide), 1 / 96000) > 7000] = 0
    fade = np.sin(np.linspace(0, np.pi, len(wide))) ** 0.5
    return soxr.resample(np.fft.irfft(band) * fade, 96000, rate, quality="VHQ").astype(np.float32)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (32000, 16000),
        (24000, 16000),
        (48000, 16000),
        (32000, 24000),
        (16000, 24000),
        (44100, 16000),
    ],
)
def test_resampling_is_band_limited_and_on_time(source, target):
    given, wanted = sound(source), sound(target)
    made = Resampler(source, target, len(wanted))(torch.from_numpy(given[None]))[0].numpy()
    assert made.shape == wanted.shape
    error = np.sqrt(np.mean((made - wanted) ** 2)) / np.sqrt(np.mean(wanted**2))
    assert 20 * np.log10(error) < -55


def test_what_the_lower_rate_cannot_hold_is_gone():
    time = np.arange(32000) / 32000
    tone = np.sin(2 * np.pi * 9500 * time).astype(np.float32)
    made = Resampler(32000, 16000, 16000)(torch.from_numpy(tone[None]))[0].numpy()
    assert np.sqrt(np.mean(made[200:-200] ** 2)) < 1e-3


def test_the_embedding_is_the_parts_side_by_side():
    joined = build_encoder(config(), window_seconds=SECONDS, weights=None, seed=0)
    assert joined.sample_rate == 24000
    windows = torch.from_numpy(np.stack([sound(24000), 0.3 * sound(24000)[::-1]]).copy())
    with torch.inference_mode():
        whole = joined(windows)
        for part, (start, stop) in zip(joined.parts, joined.columns, strict=True):
            alone = part.encoder(part.resample(windows))
            torch.testing.assert_close(whole[:, start:stop], alone)
    assert joined.columns[-1][1] == joined.dim == whole.shape[1]
    heard = build_encoder(
        EncoderConfig(kind="spectral_shape"), window_seconds=SECONDS, weights=None, seed=0
    )
    with torch.inference_mode():
        own = heard(torch.from_numpy(sound(16000)[None]))
    cosine = torch.nn.functional.cosine_similarity(own, whole[:1, : heard.dim])
    assert float(cosine) > 0.99, "resampled inside or beforehand, it is the same sound"


def test_unit_parts_weigh_alike():
    joined = build_encoder(config(unit=True), window_seconds=SECONDS, weights=None, seed=0)
    with torch.inference_mode():
        whole = joined(torch.from_numpy(sound(24000)[None]))
    for start, stop in joined.columns:
        torch.testing.assert_close(whole[0, start:stop].norm(), torch.tensor(1.0))


def test_one_graph_gives_what_torch_gives(tmp_path):
    joined = build_encoder(config(), window_seconds=SECONDS, weights=None, seed=0)
    graph = export_graph(joined, tmp_path / "e.onnx")
    windows = np.stack([sound(24000)])
    assert verify_parity(joined, graph.path, windows) > 0.9999
    assert any("resample" in name for name in graph.pinned), "the change of rate stays float32"
    assert embed(graph.path, encoder_info(joined, "float32", OPSET), windows).shape == (
        1,
        joined.dim,
    )


def test_trained_together_or_each_by_itself():
    together = build_encoder(config(), window_seconds=SECONDS, weights=None, seed=0)
    assert [member.kind for member in together.members()] == ["joined"]
    assert len(together.branches(torch.zeros(2, together.window_samples))) == 3
    alone = build_encoder(config(together=False), window_seconds=SECONDS, weights=None, seed=0)
    assert [member.kind for member in alone.members()] == ["muq", "dasheng"]


def preset(**fields) -> Preset:
    parts = [{"kind": "spectral_shape"}, {"kind": "log_mel"}]
    knn = {"kind": "knn", "normalization": "none"}
    return Preset.model_validate(
        {
            "name": "two",
            "summary": "for tests",
            "encoder": {"kind": "joined", "parts": parts},
            "scorer": {
                "kind": "fusion",
                "parts": [{"encoder": 0, "scorer": knn}, {"encoder": 1, "scorer": knn}],
            },
            **fields,
        }
    )


def test_parts_of_a_fusion_get_the_columns_of_their_encoders():
    placed = place_columns(preset().scorer, [(0, 5), (5, 7)])
    assert isinstance(placed, FusionConfig)
    assert [(part.columns, part.encoder) for part in placed.parts] == [
        ((0, 5), None),
        ((5, 7), None),
    ]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"encoder": {"kind": "joined", "parts": [{"kind": "log_mel"}]}}, "at least two"),
        ({"encoder": {"kind": "log_mel", "parts": [{"kind": "log_mel"}]}}, "has none"),
        ({"encoder": {"kind": "log_mel"}}, "there is no part 1"),
        (
            {"encoder": {"kind": "joined", "parts": [{"kind": "log_mel"}, {"kind": "beats"}]}},
            "beats is pre-trained",
        ),
    ],
)
def test_what_does_not_fit_is_told(fields, says):
    with pytest.raises(ValueError, match=says):
        preset(**fields)


def test_columns_that_there_are_not_are_told_before_the_training(tmp_path):
    knn = {"kind": "knn", "normalization": "none"}
    parts = [{"columns": (0, 4), "scorer": knn}, {"columns": (4, 9999), "scorer": knn}]
    machine = Machine("fan", tmp_path, ())
    with pytest.raises(ConfigError, match=r"parts\.1\.columns.*4 to 9999"):
        train_machine(machine, preset(scorer={"kind": "fusion", "parts": parts}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def views_and_mn04(seconds=3.0) -> Joined:
    """Those of `auscult_small`, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = [
            SoundViews(window_seconds=seconds),
            Mn04(window_seconds=seconds, features="block12_balanced", level="remove"),
        ]
    return Joined(parts, window_seconds=seconds, unit=False, together=False).eval()


def test_parts_of_other_rates_and_hops_have_their_frames_on_one_grid():
    joined = views_and_mn04()
    framing = joined.framing
    assert framing is not None
    assert (framing.hop, joined.window_samples % framing.hop) == (8000, 0)
    long = torch.from_numpy(sound(32000, 5.0)[None])
    with torch.inference_mode():
        frames = framing.front_end(long)
        part = framing.front_end(long[:, 2 * framing.hop : 2 * framing.hop + 8 * framing.hop])
        inside = slice(framing.head, 8 - framing.tail)
        torch.testing.assert_close(part[..., inside], frames[..., 2:][..., inside])
        heard = long[:, : joined.window_samples]
        apart = joined.shared.apart(joined.shared(heard))
        for found, one in zip(apart, joined.parts, strict=True):
            torch.testing.assert_close(found, one.encoder.front_end(one.resample(heard)))
        alone = torch.cat([one(heard) for one in joined.parts], dim=1)
        torch.testing.assert_close(joined(heard), alone, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(joined.with_patches(heard)[0], joined(heard))


def test_a_window_that_overlaps_has_only_its_new_frames_made_of_all_parts(tmp_path):
    joined = views_and_mn04()
    graph = export_graph(joined, tmp_path / "encoder.onnx")
    info = encoder_info(joined, "float32", OPSET)
    windows = np.stack([sound(32000, 3.0), 0.5 * sound(32000, 3.0)[::-1]])
    assert write_parts(joined, graph.path, info, windows)
    body = onnx.load(tmp_path / BODY)
    # A constant may serve on either side.
    names = " ".join(node.name for node in body.graph.node if node.op_type != "Constant")
    assert "statistics" in names
    assert "spectrogram" not in names
    assert "resample" not in names
    layout = layout_of({one.key: one.value for one in onnx.load(tmp_path / FRAMES).metadata_props})
    # The beginning's edge, and a second of new sound: with what each reaches to.
    assert [one.length for one in layout.chunks(fresh=4)] == [2, 6]

"""Every encoder gives in onnxruntime what it gives in torch, from portable operators."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from agent.core.errors import ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder

# What TensorRT's parser lacks or what would mean that a spectrum was left to the runtime.
FORBIDDEN = {"DFT", "STFT", "If", "Loop", "Scan", "NonZero"}


@pytest.mark.parametrize(
    ("kind", "features", "seconds", "members"),
    [
        ("loudness", "", 1.0, 1),
        ("log_mel", "", 1.0, 1),
        ("mn04", "block12_freq", 1.0, 1),
        ("mn04", "block12_balanced", 1.0, 1),
        ("mn04", "block7_balanced", 1.0, 1),
        ("spectral_shape", "", 1.0, 1),
        ("spectral_quantiles", "", 1.0, 1),
        ("sound_views", "", 1.0, 1),
        ("mn04", "multi", 1.0, 1),
        ("yamnet", "middle", 2.0, 1),
        ("yamnet", "last", 1.0, 1),
        ("speech_embedding", "", 1.0, 1),
        ("dual_path", "", 1.3, 2),
        ("ae", "mahala_textbook", 1.0, 1),
        ("bigru", "", 1.0, 1),
        ("acae", "mse", 1.0, 1),
    ],
)
def test_onnxruntime_gives_what_torch_gives(tmp_path, kind, features, seconds, members):
    encoder = build_encoder(
        EncoderConfig(kind=kind, features=features),
        window_seconds=seconds,
        weights=None,
        seed=0,
        members=members,
    )
    path = tmp_path / "encoder.onnx"
    program = torch.onnx.export(
        encoder,
        (torch.zeros(2, encoder.window_samples),),
        dynamo=True,
        opset_version=18,
        input_names=["waveform"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        external_data=False,
        verbose=False,
    )
    program.save(path)
    graph = onnx.load(path).graph
    assert not FORBIDDEN & {node.op_type for node in graph.node}
    scopes = [
        entry.value
        for node in graph.node
        for entry in node.metadata_props
        if entry.key == "pkg.torch.onnx.name_scopes"
    ]
    assert any("'front_end'" in scope for scope in scopes)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for batch in (1, 3):
        waveform = 0.1 * random.standard_normal((batch, encoder.window_samples)).astype(np.float32)
        with torch.no_grad():
            expected = encoder(torch.from_numpy(waveform)).numpy()
        (found,) = session.run(None, {"waveform": waveform})
        assert found.shape == (batch, encoder.dim)
        # A logarithm magnifies the rounding of a bin that holds almost nothing.
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_dual_path_halves_have_unit_length_and_depend_on_the_seed():
    def build(seed):
        return build_encoder(
            EncoderConfig(kind="dual_path"), window_seconds=1.0, weights=None, seed=seed
        )

    waveform = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    embedding = build(0)(waveform)
    for half in embedding.split(128, dim=1):
        assert torch.allclose(half.norm(dim=1), torch.ones(2), atol=1e-5)
    assert torch.equal(embedding, build(0)(waveform))
    assert not torch.allclose(embedding, build(1)(waveform), atol=0.01)


def test_a_config_that_cannot_be_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        build_encoder(EncoderConfig(kind="dual_path"), window_seconds=0.5, weights=None, seed=0)
    with pytest.raises(ConfigError, match="ensemble"):
        build_encoder(
            EncoderConfig(kind="log_mel"), window_seconds=1, weights=None, seed=0, members=3
        )
    for fields in (
        {"kind": "dual_path", "segments": 2},
        {"kind": "joined", "parts": [{"kind": "dual_path"}, {"kind": "log_mel"}]},
    ):
        # As a part of another encoder, its models would be trained as one.
        with pytest.raises(ConfigError, match=r"training\.ensemble"):
            build_encoder(
                EncoderConfig.model_validate(fields),
                window_seconds=2,
                weights=None,
                seed=0,
                members=3,
            )
    with pytest.raises(ConfigError, match="features"):
        build_encoder(
            EncoderConfig(kind="log_mel", features="x"), window_seconds=1, weights=None, seed=0
        )

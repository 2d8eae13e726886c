"""A published tagger becomes ONNX: it hears what it should, and what is no tagger is refused."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from agent.capture.files import read_audio
from agent.core.errors import AuscultError, ConfigError
from agent.foreign.speech import SpeechModel
from agent.foreign.tagger import RATE, Tagger, mel_matrix, patches_of
from export.commands.tagger import convert_tagger_command
from export.tagger import GROUPS, TAGS, convert_tagger


def test_patches_are_log_mel_of_a_second_half_overlapping():
    t = np.arange(3 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    patches = patches_of(tone, RATE, mel_matrix())
    assert patches.shape == (5, 96, 64)
    mel = 1127 * np.log1p(np.array([125.0, 1000.0, 7500.0]) / 700)
    place = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1
    assert abs(int(patches[0, 0].argmax()) - place) < 1
    assert patches.min() >= np.log(0.001) - 1e-3


def test_a_short_sound_fills_one_patch_and_another_rate_is_resampled():
    assert patches_of(np.zeros(100, np.float32), RATE, mel_matrix()).shape == (1, 96, 64)
    assert patches_of(np.zeros(96000, np.float32), 48000, mel_matrix()).shape == (3, 96, 64)


def test_groups_name_tags_of_the_published_order():
    for spans in GROUPS.values():
        assert all(0 <= first <= last < TAGS for first, last in spans)
    places = [i for spans in GROUPS.values() for a, b in spans for i in range(a, b + 1)]
    assert len(places) == len(set(places)), "no tag is of two kinds"


@pytest.mark.parametrize("data", [b"", b"nonsense", b"\0\0\0\0TFL3" + bytes(200)])
def test_what_is_no_tagger_is_refused_by_name(tmp_path, data):
    (tmp_path / "a.tflite").write_bytes(data)
    with pytest.raises(AuscultError) as refused:
        convert_tagger(tmp_path / "a.tflite", tmp_path / "a.onnx")
    assert "a.tflite" in str(refused.value)
    assert not (tmp_path / "a.onnx").exists()


def test_an_agent_refuses_a_file_that_is_no_model(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"nonsense")
    for model in (Tagger, SpeechModel):
        with pytest.raises(ConfigError, match=r"a\.onnx"):
            model(tmp_path / "a.onnx").start()


@pytest.mark.shared
def test_yamnet_hears_rain_saws_and_helicopters(shared, tmp_path):
    source = shared / "weights" / "yamnet_spectra_in.tflite"
    result = CliRunner().invoke(
        convert_tagger_command, [str(source), "--out", str(tmp_path / "tagger.onnx")]
    )
    assert result.exit_code == 0, result.output
    tagger = Tagger(tmp_path / "tagger.onnx")
    tagger.start()
    assert set(tagger.hear(np.zeros(16000, np.float32), 16000)) == set(GROUPS)
    for folder, kinds in (
        ("rain", {"rain"}), ("chainsaw", {"tools", "vehicle"}), ("helicopter", {"vehicle"}),
    ):  # fmt: skip
        right = 0
        clips = sorted((shared / "data" / "esc10" / folder).iterdir())[:8]
        for clip in clips:
            sure = tagger.hear(read_audio(clip, rate=RATE), RATE)
            best = max(sure, key=lambda kind: float(sure[kind].max()))
            right += best in kinds
        assert right >= 0.75 * len(clips), folder


@pytest.mark.shared
def test_silero_hears_no_speech_in_noise(shared):
    model = SpeechModel(shared / "weights" / "silero_vad.onnx")
    model.start()
    noise = 0.05 * np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    assert model.hear(noise, RATE).max() < 0.4

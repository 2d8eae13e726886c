"""Recordings become one stream, with the clocks it would have had."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from support.bundles import tone, write

from agent.capture.replay import Replay
from agent.capture.source import open_source
from agent.config.capture import ReplaySource
from agent.core.errors import AudioError


def play(*paths, rate=8000, **config):
    source = open_source(
        ReplaySource(paths=tuple(map(str, paths)), **{"speed": "max", **config}), rate
    )
    source.start()
    return source, list(source.blocks())


def join(blocks):
    return np.concatenate([block.samples for block in blocks])


def test_files_are_spliced_sample_by_sample(tmp_path):
    sounds = [tone(1.3, seed=1), tone(0.7, seed=2)]
    files = [write(tmp_path / f"{i}.wav", sound) for i, sound in enumerate(sounds)]
    _, blocks = play(*files)
    np.testing.assert_array_equal(join(blocks), np.concatenate(sounds))
    assert not any(block.gap_before for block in blocks)
    assert {block.origin for block in blocks} == {"0.wav", "1.wav"}
    assert max(len(block.samples) for block in blocks) <= 2000


def test_clocks_are_those_of_the_stream_even_at_full_speed(tmp_path):
    file = write(tmp_path / "a.wav", tone(20))
    before = time.time()
    _, blocks = play(file)
    position = 0
    for block in blocks:
        assert block.monotonic - blocks[0].monotonic == pytest.approx(position / 8000)
        assert block.wall - blocks[0].wall == pytest.approx(position / 8000, abs=1e-5)
        position += len(block.samples)
    assert before - 1 < blocks[0].wall < time.time() + 1


def test_other_rates_are_resampled_in_pieces_without_seams(tmp_path):
    file = write(tmp_path / "a.wav", tone(5, rate=44100), rate=44100)
    _, blocks = play(file)
    sound = join(blocks)
    assert len(blocks) > 10
    assert len(sound) == pytest.approx(40000, abs=2)
    middle = sound[400:-400]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    peak = spectrum.argmax()
    assert peak * 8000 / len(middle) == pytest.approx(440, abs=0.5)
    # A seam would click: energy far from the tone, above the noise that is in the recording.
    away = np.delete(spectrum, slice(peak - 20, peak + 20))
    assert away.max() < 0.01 * spectrum[peak]


def test_folders_and_globs_are_sorted_and_order_is_kept(tmp_path):
    for name in ("b/2.wav", "b/1.wav", "a.wav", "c1.flac", "c0.flac"):
        write(tmp_path / name, tone(0.2))
    (tmp_path / "b" / "notes.txt").write_text("not sound")
    _, blocks = play(tmp_path / "c*.flac", tmp_path / "b", tmp_path / "a.wav")
    origins = list(dict.fromkeys(block.origin for block in blocks))
    assert origins == ["c0.flac", "c1.flac", "1.wav", "2.wav", "a.wav"]


def test_a_bad_file_is_reported_skipped_and_leaves_a_gap(tmp_path, caplog):
    files = [write(tmp_path / f"{i}.wav", tone(0.5)) for i in range(3)]
    files[1].write_bytes(b"RIFF not really")
    source, blocks = play(*files)
    assert [block.origin for block in blocks if block.gap_before] == ["2.wav"]
    assert "1.wav" in caplog.text
    assert source.faults() == {"bad_files": 1}
    assert len(join(blocks)) == 8000


def test_gap_between_files_on_request(tmp_path):
    files = [write(tmp_path / f"{i}.wav", tone(0.5)) for i in range(3)]
    _, blocks = play(*files, gap_between_files=True)
    assert [block.origin for block in blocks if block.gap_before] == ["1.wav", "2.wav"]


def test_nothing_to_play_is_a_fault_that_names_the_path(tmp_path):
    with pytest.raises(AudioError, match=r"no recording here"):
        play(tmp_path / "none*.wav")
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"x")
    with pytest.raises(AudioError, match="none of the 1 recordings"):
        play(bad, loop=True)


def test_channel_is_chosen_or_averaged(tmp_path):
    left, right = tone(0.5, 300), tone(0.5, 700)
    file = write(tmp_path / "a.wav", np.stack([left, right], axis=1))
    np.testing.assert_array_equal(join(play(file, channel=1)[1]), right)
    np.testing.assert_allclose(join(play(file)[1]), (left + right) / 2, atol=1e-6)


def test_real_time_takes_real_time_and_stop_ends_it_at_once(tmp_path):
    file = write(tmp_path / "a.wav", tone(0.3))
    source = Replay(ReplaySource(paths=(str(file),), loop=True), 8000)
    source.start()
    began = time.monotonic()
    got = []
    threading.Timer(1.2, source.stop).start()
    for block in source.blocks():
        got.append(block)
        # No block before its last sample could have been heard.
        assert (
            time.monotonic() - began
            >= block.monotonic + len(block.samples) / 8000 - got[0].monotonic - 0.01
        )
        if len(got) > 50:
            break
    elapsed = time.monotonic() - began
    # More than the file is long, less than has passed.
    assert 0.3 < len(join(got)) / 8000 < elapsed + 0.1

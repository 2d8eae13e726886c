"""What windows go through: SpecAugment, speed, gain, noise, mixup; all of it told by a seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit.augment import Augmenter, mix, mixture_of, random_of
from trainer.fit.config import AugmentSettings
from trainer.fit.frontend import FrontEnds, spec_augment

RATE = 16000
NOTHING = torch.zeros(0, RATE)


def _augmenter(recorded=NOTHING, kinds=("none",), **settings):
    return Augmenter(AugmentSettings(**settings), kinds, RATE, recorded)


def _tone(frequency=1000):
    return torch.sin(2 * torch.pi * frequency * torch.arange(RATE) / RATE)


def _show(augmenter, window, seed=0):
    return augmenter.show(window, random_of(seed, 0, 1, 0)).waveform


def test_masks_are_as_wide_as_told_and_hold_the_mean():
    # 4 and 6: no value is the mean by chance, as one in a million random ones is.
    features = 4.0 + 2.0 * torch.randint(0, 2, (200, 1, 64, 300))
    random = torch.rand(200, 1, 4)
    masked = spec_augment(features, random, time=80, frequency=24, frames_last=True)
    changed = masked != features
    widths = changed.all(dim=2).sum(dim=(1, 2))
    heights = changed.all(dim=3).sum(dim=(1, 2))
    assert widths.max() <= 80
    assert widths.max() > 70
    assert heights.max() <= 24
    assert heights.max() > 20
    assert widths.min() == 0 or widths.min() < 8
    for i in range(200):
        hidden = masked[i][changed[i]]
        assert torch.allclose(hidden, features[i].mean().expand_as(hidden), atol=1e-4)
        # In one piece each.
        runs = torch.diff(changed[i].all(dim=1).int().flatten()).abs().sum()
        assert runs <= 2


def test_masks_follow_the_axes_they_are_told():
    features = torch.randn(4, 300, 64)
    random = torch.rand(4, 2, 4)
    turned = spec_augment(
        features.transpose(1, 2), random, time=40, frequency=9, frames_last=True
    ).transpose(1, 2)
    assert torch.equal(
        spec_augment(features, random, time=40, frequency=9, frames_last=False), turned
    )


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("beats", "tiny"),
        ("eat", "tiny"),
        ("m2d", "tiny_80x608p16x16"),
        ("dasheng", "tiny"),
        ("muq", "tiny"),
        ("mn04", ""),
        ("dual_path", ""),
    ],
)
def test_the_mask_lies_between_front_end_and_network(kind, size):
    encoder = build_encoder(
        EncoderConfig(kind=kind, size=size), window_seconds=1.0, weights=None, seed=0
    )
    encoder.eval()
    made = []
    fronts = FrontEnds(encoder, AugmentSettings(spec_time=20, spec_frequency=10))
    sound = 0.1 * torch.randn(2, encoder.window_samples, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = encoder(sound)
        with fronts.watched():
            for name, module in encoder.named_modules():
                if name.rpartition(".")[2] == "front_end":
                    module.register_forward_hook(lambda _m, _g, out: made.append(out))
            same = encoder(sound)
            fronts.masks = torch.full((2, 1, 4), 0.99)
            fronts.masks[..., 1::2] = 0.5
            masked = encoder(sound)
        fronts.masks = torch.full((2, 1, 4), 0.99)
        after = encoder(sound)
    assert torch.equal(plain, same)
    assert torch.equal(plain, after)
    assert not torch.equal(plain, masked)
    plain_features, features = (f[0] if isinstance(f, tuple) else f for f in made[:2])
    frames, bands = (1, 2) if kind in {"beats", "eat"} else (features.dim() - 1, features.dim() - 2)
    changed = (features != plain_features)[0]
    over_time = changed.movedim(frames - 1, 0).flatten(1).all(dim=1).sum()
    over_bands = changed.movedim(bands - 1, 0).flatten(1).all(dim=1).sum()
    assert over_time == 20
    assert over_bands == 10


def test_every_piece_of_a_window_gets_its_windows_mask():
    encoder = build_encoder(
        EncoderConfig(kind="dual_path", segments=2), window_seconds=2.0, weights=None, seed=0
    )
    sound = 0.1 * torch.randn(2, encoder.window_samples, generator=torch.Generator().manual_seed(0))
    fronts = FrontEnds(encoder, AugmentSettings(spec_time=10))
    fronts.masks = torch.full((2, 1, 4), 0.99)
    fronts.masks[1, 0, 0] = 0.0  # the second window has no mask
    pieces = sound.reshape(4, -1)
    with torch.no_grad(), fronts.watched():
        masked = encoder.encoder.front_end(pieces)[0]
        fronts.masks = None
        plain = encoder.encoder.front_end(pieces)[0]
    hidden = (masked != plain).flatten(1, 2).all(dim=1).sum(dim=1)
    assert hidden.tolist() == [10, 10, 0, 0]


def test_half_precision_stops_at_the_front_end():
    encoder = build_encoder(
        EncoderConfig(kind="beats", size="tiny"), window_seconds=1.0, weights=None, seed=0
    )
    made = []
    encoder.backbone.front_end.register_forward_hook(lambda _m, _g, out: made.append(out))
    sound = 0.1 * torch.randn(1, RATE)
    with torch.no_grad():
        encoder(sound)
        with (
            FrontEnds(encoder, AugmentSettings()).watched(),
            torch.autocast("cpu", dtype=torch.bfloat16),
        ):
            encoder(sound)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            encoder(sound)
    exact, watched, unwatched = made
    assert torch.equal(exact, watched)
    assert not torch.equal(exact, unwatched.float())


def test_half_precision_stops_at_a_change_of_rate():
    parts = [{"kind": "beats", "size": "tiny"}, {"kind": "muq", "size": "tiny"}]
    encoder = build_encoder(
        EncoderConfig(kind="joined", parts=parts), window_seconds=1.0, weights=None, seed=0
    )
    made = []
    encoder.parts[0].resample.register_forward_hook(lambda _m, _g, out: made.append(out))
    sound = 0.1 * torch.randn(1, encoder.window_samples)
    with torch.no_grad():
        encoder(sound)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            with FrontEnds(encoder, AugmentSettings()).watched():
                encoder(sound)
            assert torch.is_autocast_enabled("cpu")
    exact, watched = made
    assert watched.dtype is torch.float32
    assert torch.equal(exact, watched)


def test_a_broken_front_end_leaves_no_context_behind():
    encoder = build_encoder(
        EncoderConfig(kind="beats", size="tiny"), window_seconds=1.0, weights=None, seed=0
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with FrontEnds(encoder, AugmentSettings()).watched(), pytest.raises(RuntimeError):
            encoder(torch.zeros(1, 3))
        assert torch.is_autocast_enabled("cpu")


def test_gain_and_speed_do_what_their_names_say():
    levels = [
        20 * torch.log10(_show(_augmenter(gain_db=6), _tone(), s).std() / _tone().std()).item()
        for s in range(60)
    ]
    assert -6.01 < min(levels) < -4
    assert 4 < max(levels) < 6.01
    peaks = [
        int(torch.fft.rfft(_show(_augmenter(speed=0.1), _tone(), s)).abs().argmax())
        for s in range(60)
    ]
    assert 900 < min(peaks) < 940
    assert 1060 < max(peaks) < 1110


def test_no_speed_where_being_faster_is_a_class():
    augmenter = _augmenter(speed=0.1, kinds=("none", "modulated"))
    for seed in range(8):
        shown = augmenter.show(_tone(), random_of(seed, 0, 1, 0))
        assert int(torch.fft.rfft(shown.waveform).abs().argmax()) == 1000
        assert shown.kind == augmenter.kind(random_of(seed, 0, 1, 0))


def test_noise_comes_from_the_noise_recordings_at_the_ratio_asked_for():
    noise = torch.zeros(3, RATE)
    noise[:, ::100] = 1.0  # a click train: no pink noise has its spectrum
    changed = _show(_augmenter(noise, noise=1.0, noise_snr_db=(6, 6)), _tone())
    spectrum = torch.fft.rfft(changed).abs()
    assert spectrum[160:].reshape(-1)[::160][10] > 50 * spectrum[1730]
    # 0.5 of the tone, a quarter of that (6 dB) of the clicks.
    assert changed.square().mean().item() == pytest.approx(0.5 * 1.2512, rel=0.02)


def test_pink_noise_where_there_are_no_noise_recordings():
    changed = _show(_augmenter(noise=1.0, noise_snr_db=(0, 0)), _tone(50))
    power = torch.fft.rfft(changed).abs() ** 2
    low, high = power[100:200].sum(), power[3200:6400].sum()
    assert 0.5 < low / power[1600:3200].sum() < 2
    assert 0.5 < low / high < 2


def test_mixup_draws_from_its_beta_and_mixes_partners():
    shares = [mixture_of(8, 1.0, 0.5, random_of(s, 0, 2, 0)).shares[0] for s in range(800)]
    # Beta(0.5, 0.5) has variance 1/8, the uniform distribution 1/12.
    assert np.var(shares) == pytest.approx(1 / 8, rel=0.12)
    assert sum(mixture_of(8, 0.25, 1, random_of(s, 0, 2, 0)).mixed for s in range(800)) < 260
    augmenter = _augmenter()
    shown = {
        i: augmenter.show(torch.full((RATE,), float(i)), random_of(0, 0, 1, i)) for i in range(4)
    }
    mixture = mixture_of(4, 1.0, 1.0, random_of(3, 0, 2, 0))
    mixed = mix(shown, [1, 2], mixture)
    for row, place in zip(mixed, (1, 2), strict=True):
        expected = mixture.shares[0] * place + (1 - mixture.shares[0]) * mixture.order[place]
        assert torch.allclose(row, torch.full((RATE,), expected))

"""Training an autoencoder: what is learnt from, that it learns, that it is the same again."""

from __future__ import annotations

import math

import pytest
import torch

from agent.bundle.manifest import Row
from agent.core.errors import AudioError, ConfigError
from trainer.encoder_config import EncoderConfig
from trainer.encoders.registry import build_encoder
from trainer.fit.reconstruct import fit_autoencoder, fresh_weights
from trainer.preset import TrainingConfig

SECONDS = 1.0
RATE = 16000


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def row(source: str, start: float = 0.0, **attributes: str) -> Row:
    return Row(source=source, start=start, group=source, attributes=attributes)


def build(kind: str = "ae", features: str = ""):
    config = EncoderConfig(kind=kind, features=features)
    return build_encoder(config, window_seconds=SECONDS, weights=None, seed=0)


def hum(windows: int, hertz: float = 500.0, seed: int = 0):
    """A tone with harmonics over noise, another phase each."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(round(RATE * SECONDS)) / RATE
    phase = 2 * math.pi * torch.rand(windows, 1, generator=generator)
    tone = sum(torch.sin(2 * math.pi * hertz * k * time + phase) / k for k in (1, 2, 3))
    return 0.1 * tone + 0.02 * torch.randn(windows, len(time), generator=generator)


def config(**changes) -> TrainingConfig:
    fields = {"kind": "reconstruct", "epochs": 30, "batch": 32}
    return TrainingConfig(**{**fields, **changes})


@pytest.mark.parametrize("kind", ["ae", "bigru"])
def test_it_restores_what_it_learnt_and_not_another_pitch(kind):
    encoder = build(kind)
    rows = [row(str(i)) for i in range(16)]
    small = config(batch=8, epochs=40) if kind == "bigru" else config()
    result = fit_autoencoder(encoder, hum(16), rows, small, machine="m", seed=0)
    assert len(result.losses) == small.epochs
    # The noise between the harmonics cannot be restored.
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert result.classes == 0
    assert not encoder.training
    with torch.no_grad():
        healthy, strange = encoder(hum(4, seed=1))[:, 0], encoder(hum(4, 710.0, seed=1))[:, 0]
    assert strange.min() > 1.5 * healthy.max()


def test_equal_seeds_give_equal_encoders_and_the_global_state_is_left_alone():
    rows = [row(str(i)) for i in range(4)]
    before = torch.get_rng_state()
    made = []
    for seed in (0, 0, 1):
        encoder = build()
        fit_autoencoder(encoder, hum(4), rows, config(epochs=2), machine="m", seed=seed)
        made.append(encoder.last.weight.detach())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_sound_in_two_windows_is_one_example():
    encoder = build()
    rows = [row("a", 0.0), row("b", 0.0), row("a", 0.25), row("a", 5.0)]
    found = fresh_weights(encoder, rows, range(len(rows))).tolist()
    assert len({tuple(pair) for pair in found}) == len(found)
    count = [sum(window == i for window, _ in found) for i in range(4)]
    assert count[0] == count[1] == count[3] == encoder.places
    # Of the second window of `a` 0.25 s are new, and what begins so late that it reaches there.
    span, step = encoder.span_seconds, encoder.place_seconds
    firsts = [place for window, place in found if window == 2]
    assert firsts == list(range(firsts[0], encoder.places))
    assert 0.25 + firsts[0] * step + span > 1.0
    assert 0.25 + (firsts[0] - 1) * step + span <= 1.0 + 1e-6


def test_classification_draws_the_codes_of_conditions_apart():
    waveforms = torch.cat([hum(8), hum(8, 710.0, seed=2)])
    rows = [row(str(i), speed="slow" if i < 8 else "fast") for i in range(16)]
    spread = []
    for weight in (0.0, 5.0):
        encoder = build("acae")
        result = fit_autoencoder(
            encoder,
            waveforms,
            rows,
            config(batch=8, epochs=10, head="noisy_arcmix", classification=weight),
            machine="m",
            seed=0,
        )
        assert result.classes == (2 if weight else 0)
        with torch.no_grad():
            codes = torch.nn.functional.normalize(encoder(waveforms), dim=1)
        within = float((codes[:8] @ codes[:8].T).mean() + (codes[8:] @ codes[8:].T).mean()) / 2
        spread.append(within - float((codes[:8] @ codes[8:].T).mean()))
    assert spread[1] > spread[0] + 0.1


def test_classes_are_those_asked_for_and_told_as_they_are():
    rows = [
        Row(source=str(i), start=0.0, group=str(i), domain=("source", "target")[i % 2])
        for i in range(4)
    ]

    def fit(**classes):
        asked = config(epochs=1, head="noisy_arcmix", classification=1.0, classes=classes)
        return fit_autoencoder(build("acae"), hum(4), rows, asked, machine="m", seed=0)

    both, one = fit(), fit(domains="never")
    assert both.classes == 2
    assert "faster" not in both.class_rule  # spectra heard once are not distorted
    assert one.classes == 0
    assert "all recordings are of one" in one.class_rule


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(ConfigError, match="autoencoder"):
        fit_autoencoder(
            build("dual_path"), hum(2), [row("a"), row("b")], config(), machine="m", seed=0
        )
    broken = hum(2)
    broken[0, 5] = math.nan
    with pytest.raises(AudioError, match="finite"):
        fit_autoencoder(build(), broken, [row("a"), row("b")], config(), machine="m", seed=0)
    with pytest.raises(ConfigError, match="learning_rate"):
        fit_autoencoder(
            build(), hum(2), [row("a"), row("b")], config(learning_rate=1e30), machine="m", seed=0
        )


def test_in_a_joined_encoder_the_autoencoders_learn_and_the_rest_stays():
    parts = [{"kind": "dual_path"}, {"kind": "ae"}]
    joined = build_encoder(
        EncoderConfig.model_validate({"kind": "joined", "together": False, "parts": parts}),
        window_seconds=SECONDS,
        weights=None,
        seed=0,
    )
    before = {name: value.clone() for name, value in joined.state_dict().items()}
    rows = [row(str(i)) for i in range(4)]
    fit_autoencoder(joined, hum(4), rows, config(epochs=2), machine="m", seed=0)
    changed = {name for name, value in joined.state_dict().items() if not value.equal(before[name])}
    assert changed
    assert all(name.startswith("parts.1.encoder.") for name in changed)


def test_held_out_recordings_of_each_domain_are_not_learnt_from():
    rows = [
        Row(source=f"{i // 2}", start=0.5 * (i % 2), group=f"{i // 2}", domain=domain)
        for i, domain in enumerate(["source"] * 8 + ["target"] * 4)
    ]
    result = fit_autoencoder(
        build(), hum(12), rows, config(epochs=1, held_out=0.25), machine="m", seed=0
    )
    held = {int(name.removeprefix("m/")) for name in result.held_out}
    assert len(held & {0, 1, 2, 3}) == 1
    assert len(held & {4, 5}) == 1
    # Other sound in their place changes nothing that is learnt.
    windows = hum(12)
    loud = windows.clone()
    for number in held:
        loud[2 * number : 2 * number + 2] *= 7
    weights = []
    for waveforms in (windows, loud):
        encoder = build()
        fit_autoencoder(
            encoder, waveforms, rows, config(epochs=1, held_out=0.25), machine="m", seed=0
        )
        weights.append(encoder.last.weight.detach())
    assert torch.equal(*weights)

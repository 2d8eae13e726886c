from __future__ import annotations

import pytest

from trainer.encoder_config import EncoderConfig
from trainer.zoo.catalogue import CATALOGUE, licence_of


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_every_published_file_has_its_own_terms(entry):
    config = EncoderConfig(kind=entry.family, weights=entry.file)
    assert licence_of(config) == f"{entry.family}: {entry.licence}"


def test_a_file_under_another_name_has_its_familys_terms():
    terms = licence_of(EncoderConfig(kind="muq", weights="mine.safetensors"))
    assert "CC-BY-NC" in terms


def test_what_is_trained_from_scratch_is_bound_by_nothing():
    assert licence_of(EncoderConfig(kind="dual_path")) == ""
    assert licence_of(EncoderConfig(kind="beats", size="tiny")) == ""

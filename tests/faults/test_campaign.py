"""The fault campaign in haste, part by part; `make test-faults` runs it in full."""

from __future__ import annotations

import json
import random
import shutil

import pytest
from faults import corrupting
from faults.breaking import NotPossibleError, need
from faults.campaign import PARTS
from faults.plant import FaultFoundError, Plant, Site

from agent.core.errors import BundleError
from agent.deploy.load import open_bundle


@pytest.fixture
def site(tmp_path):
    from support.broker import mosquitto

    mosquitto()
    with Site(tmp_path / "site", random.Random(3)) as site:
        yield site


@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_lost_and_nothing_comes_out_of_order(site, part):
    break_it, _, seldom, _ = PARTS[part]
    try:
        need(part)
        count = break_it(site, seldom)
    except NotPossibleError as fault:
        pytest.skip(str(fault))
    assert count.raised >= 2
    assert (count.lost, count.disorder) == (0, 0)
    assert count.delivered == count.raised


def test_the_book_notices_what_is_lost_doubled_or_unheard_of(site):
    """The campaign itself must be able to fail."""
    plant = Plant(site, "forged")
    try:
        plant.start()
        plant.more(2)
        plant.settle()
        plant.raised["never-sent"] = None
        assert plant.count().lost == 1
        del plant.raised["never-sent"]
        sent = next(iter(plant.raised))
        site.receipts.append((plant.name, sent))
        assert plant.count().duplicated == 1
        site.receipts.append((plant.name, "from-nowhere"))
        with pytest.raises(FaultFoundError, match="never raised"):
            plant.count()
        site.receipts.append((plant.name, "from-nowhere-raised"))
        with pytest.raises(FaultFoundError, match="the agent counts"):
            plant.count()
    finally:
        plant.end()


def test_every_region_of_a_bundle_altered_is_refused_by_name(tiny_bundle, tmp_path):
    assert corrupting.in_process(tiny_bundle, tmp_path / "copy", 16) > 300


def test_a_field_given_twice_in_a_manifest_is_refused(tiny_bundle, tmp_path):
    """Even where both say the same, and the digest is right."""
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    text = (copy / "manifest.json").read_text()
    json.loads(text)
    (copy / "manifest.json").write_text(
        text.replace('"hop_seconds": 0.5', '"hop_seconds": 0.5, "hop_seconds": 0.5', 1)
    )
    with pytest.raises(BundleError, match=r"manifest\.json.*'hop_seconds' is given twice"):
        open_bundle(copy)

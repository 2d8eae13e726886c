"""Bundles taken up while the agent runs: verified, tried, and left again when they fail."""

from __future__ import annotations

import contextlib
import json
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from support.bundles import RATE, build_bundle, tone, write
from support.told import Listener, to
from test_bank_growth import NEW_HZ, add

from agent.bundle.manifest import BANK, BODY, ENCODER, FRAMES, MANIFEST
from agent.bundle.seal import new_bundle, seal
from agent.bundle.verify import read_manifest
from agent.config.agent import MachineConfig
from agent.core.errors import AuscultError, BundleError
from agent.core.records import AudioBlock
from agent.deploy.device_key import Vouching
from agent.deploy.ledger import BundleLedger
from agent.deploy.swap import BundleSwapper, with_session_of
from agent.deploy.trust import Opening, TrustedBundle
from agent.deploy.versions import Versions
from agent.encode.onnx import OnnxEncoder
from agent.pipeline.pipeline import Pipeline

OPENING = Opening()


class Judge:
    """What a pipeline is to the swapper, and nothing more."""

    def __init__(self, bundle):
        self.bundle = bundle

    def use_bundle(self, bundle):
        before, self.bundle = self.bundle, bundle
        return before

    def hear(self, count=1):
        for _ in range(count):
            with contextlib.suppress(BundleError):
                self.bundle.encoder.encode(tone(1)[None])


@pytest.fixture
def site(tmp_path, tiny_bundle):
    shutil.copytree(tiny_bundle, tmp_path / "pump")
    return tmp_path


def trusted(site, **opening):
    return TrustedBundle(site / "pump", site / "state", "pump", Opening(**opening))


def ledger(site, told):
    return BundleLedger(site / "state/state/bundles/pump.json", told.append)


@pytest.fixture
def running(site):
    """A swapper that only acts when told, and its judge."""
    one = trusted(site)
    restarts = []
    judge = Judge(None)

    def restart(machine, bundle):
        restarts.append(bundle)
        judge.bundle = bundle

    swapper = BundleSwapper(
        lambda _: judge, restart, watch_seconds=1, trial_windows=3,
    )  # fmt: skip
    swapper.told = []
    judge.bundle = swapper.add("pump", one, one.open_any(), ledger(site, swapper.told))
    swapper.uses["pump"].ledger.begin(swapper.bundle("pump"))
    swapper.restarts = restarts
    return swapper, judge


def replace_export(site, **changes):
    """Another export in the same place, as `auscult export` puts it there."""
    build_bundle(site / "other", **changes)
    with new_bundle(site / "pump") as draft:
        shutil.copytree(site / "other", draft, dirs_exist_ok=True)
    shutil.rmtree(site / "other")


def attend(swapper):
    swapper.attend("pump", look=True)


def test_a_bundle_dropped_in_place_is_taken_up_once_it_has_settled(site, running):
    swapper, judge = running
    attend(swapper)
    assert swapper.swapped == 0
    replace_export(site, threshold=0.07)
    attend(swapper)
    assert swapper.swapped == 0  # it might still be copied
    attend(swapper)
    assert swapper.swapped == 1
    assert judge.bundle.manifest.threshold.value == 0.07
    attend(swapper)
    assert swapper.swapped == 1
    judge.hear(3)
    attend(swapper)
    assert read_manifest(site / "state/bank/pump/good").threshold.value == 0.07


def test_a_link_to_nowhere_beside_the_files_hides_no_change(site):
    one = trusted(site)
    (site / "pump" / ".#manifest.json").symlink_to("someone@host.1234")
    before = one.identity()
    np.save(site / "pump" / BANK, np.load(site / "pump" / BANK)[1:])
    assert one.identity() != before


def test_a_bundle_that_is_not_there_is_stood_in_for_and_that_is_told(site):
    one = trusted(site)
    one.keep_good(one.open_wanted())
    (site / "pump").rename(site / "elsewhere")
    one = trusted(site)
    one.open_any().close()
    assert "no bundle here" in one.refusal
    shutil.rmtree(site / "state")
    with pytest.raises(BundleError, match="no bundle here"):
        trusted(site).open_any()


def test_half_a_copy_is_refused_and_the_whole_taken_up(site, running, caplog):
    swapper, judge = running
    build_bundle(site / "other", threshold=0.07)
    for name in (ENCODER, BANK, MANIFEST):
        whole = (site / "other" / name).read_bytes()
        (site / "pump" / name).write_bytes(whole[: len(whole) // 2])
        attend(swapper)
        attend(swapper)
        assert judge.bundle.manifest.threshold.value == 0.05
        shutil.copy(site / "other" / name, site / "pump" / name)
    assert "the bundle in use stays" in caplog.text
    shutil.copytree(site / "other", site / "pump", dirs_exist_ok=True)
    attend(swapper)
    attend(swapper)
    assert judge.bundle.manifest.threshold.value == 0.07


def test_a_bank_version_is_taken_up_and_left_again(site, running):
    swapper, judge = running
    versions = Versions(site / "pump", site / "state" / "bank" / "pump")
    for n in range(3):
        write(site / "new" / f"{n}.wav", tone(3, NEW_HZ, seed=n))
    add(site / "pump", versions, site / "new")
    versions.use(1)
    attend(swapper)
    attend(swapper)
    assert judge.bundle.manifest.growth.version == 1
    # The same encoder serves on: no second session in memory.
    assert swapper.bundle("pump").encoder is judge.bundle.encoder.encoder
    versions.rollback()
    attend(swapper)
    attend(swapper)
    assert judge.bundle.manifest.growth is None


@pytest.mark.parametrize("how", ["raises", "nan"])
def test_a_bundle_that_fails_its_trial_is_left_and_not_tried_again(site, running, how, monkeypatch):
    swapper, judge = running
    before = judge.bundle.manifest.digest
    judge.hear(3)
    attend(swapper)
    replace_export(site, threshold=0.07)
    attend(swapper)
    attend(swapper)
    assert judge.bundle.manifest.threshold.value == 0.07
    judge.hear(1)

    def fail(self, waveforms):
        if how == "raises":
            raise BundleError("the graph failed")
        return np.full((len(waveforms), 16), np.nan, np.float32)

    with monkeypatch.context() as patch:
        patch.setattr(OnnxEncoder, "encode", fail)
        judge.hear(1)
    attend(swapper)
    assert (judge.bundle.manifest.digest, swapper.rolled_back) == (before, 1)
    for _ in range(3):
        attend(swapper)
    assert judge.bundle.manifest.digest == before
    with pytest.raises(BundleError, match="failed while it was in use"):
        swapper.reload("pump")
    # After a restart the copy of what worked is used.
    assert trusted(site).open_any().manifest.digest == before
    assert trusted(site).open_any().path == site / "state/bank/pump/good"
    # Another export is another chance.
    replace_export(site, threshold=0.08)
    attend(swapper)
    attend(swapper)
    assert judge.bundle.manifest.threshold.value == 0.08


def test_a_version_that_fails_is_left_for_its_parent_on_disk_too(site, running, monkeypatch):
    swapper, judge = running
    versions = Versions(site / "pump", site / "state" / "bank" / "pump")
    for n in range(3):
        write(site / "new" / f"{n}.wav", tone(3, NEW_HZ, seed=n))
    add(site / "pump", versions, site / "new")
    versions.use(1)
    swapper.reload("pump")
    judge.bundle.encoder.failed = "it failed"
    attend(swapper)
    assert judge.bundle.manifest.growth is None
    assert versions.current() == 0


def test_a_bundle_that_gives_no_numbers_never_comes_into_use(site, running):
    swapper, judge = running
    manifest = read_manifest(site / "pump")
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(site / "pump" / ENCODER)
    for tensor in graph.graph.initializer:
        if tensor.name == "cosines":
            tensor.CopyFrom(
                numpy_helper.from_array(np.full((80, 16), np.nan, np.float32), "cosines")
            )
    onnx.save(graph, site / "pump" / ENCODER)
    seal(site / "pump", manifest)
    with pytest.raises(BundleError, match="no finite score"):
        swapper.reload("pump")
    assert judge.bundle.manifest.digest == manifest.digest


def test_other_windows_begin_the_machine_anew(site, running):
    swapper, _ = running
    manifest = read_manifest(site / "pump")
    from support.bundles import build_graph

    build_graph(site / "pump" / ENCODER, window=4000)
    changed = manifest.encoder.model_copy(update={"window_samples": 4000})
    seal(site / "pump", manifest.model_copy(update={"encoder": changed, "window_seconds": 0.5}))
    assert swapper.reload("pump")
    (begun,) = swapper.restarts
    assert begun.manifest.encoder.window_samples == 4000


def test_reload_answers(site, running):
    swapper, _ = running
    answer = swapper.handle({"machine": "pump"})
    assert answer["changed"] is False
    assert (answer["rows"], answer["version"]) == (5, 0)
    replace_export(site, threshold=0.07)
    assert swapper.handle({"machine": "pump"})["changed"] is True
    with pytest.raises(AuscultError, match="no machine"):
        swapper.handle({"machine": "press"})
    shutil.rmtree(site / "pump")
    with pytest.raises(BundleError):
        swapper.handle({"machine": "pump"})


def test_an_agent_starts_on_what_worked_when_the_export_is_damaged(site, running):
    swapper, judge = running
    judge.hear(3)
    attend(swapper)
    good = read_manifest(site / "pump").digest
    for name in (ENCODER, BANK, MANIFEST):
        whole = (site / "pump" / name).read_bytes()
        for bad in (b"", whole[: len(whole) // 2], whole[:-1] + b"\x00"):
            (site / "pump" / name).write_bytes(bad)
            opened = trusted(site).open_any()
            assert opened.manifest.digest == good
            opened.close()
        (site / "pump" / name).write_bytes(whole)
    shutil.rmtree(site / "state")
    (site / "pump" / BANK).write_bytes(b"")
    with pytest.raises(BundleError, match=r"bank\.npy"):
        trusted(site).open_any()


def test_only_signed_bundles_and_their_versions_are_opened(site, tmp_path):
    pytest.importorskip("cryptography")
    from agent.bundle.sign import load_private, make_keys, sign_folder

    make_keys(site / "k", site / "k.pub")
    one = trusted(site, public_key=site / "k.pub")
    with pytest.raises(BundleError, match="not signed"):
        one.open_any()
    sign_folder(site / "pump", load_private(site / "k"))
    one.open_any().close()
    one.keep_good(one.open_wanted())
    versions = Versions(site / "pump", site / "state" / "bank" / "pump")
    for n in range(3):
        write(site / "new" / f"{n}.wav", tone(3, NEW_HZ, seed=n))
    vouching = Vouching(site / "k.pub", site / "state")
    add(site / "pump", versions, site / "new", sign=vouching.sign)
    versions.use(1)
    grown = one.open_wanted()
    assert grown.manifest.growth.version == 1
    grown.close()
    # A version that names the signed bundle as its origin, with another encoder in it.
    graph = versions.path(1) / ENCODER
    graph.write_bytes(graph.read_bytes() + b"\x00")
    seal(versions.path(1), read_manifest(versions.path(1)))
    vouching.sign(versions.path(1), read_manifest(versions.path(1)).digest)
    opened = one.open_any()
    assert opened.path == site / "pump"
    opened.close()
    # The same encoder, and parts of another: those are what overlapping windows are run through.
    graph.write_bytes((site / "pump" / ENCODER).read_bytes())
    for name in (FRAMES, BODY):
        (versions.path(1) / name).write_bytes(b"another graph")
    seal(versions.path(1), read_manifest(versions.path(1)))
    assert one.wanted() == site / "pump"
    # A whole, unsigned export in its place: the signed copy serves on.
    replace_export(site, threshold=0.9)
    with pytest.raises(BundleError, match="not signed"):
        one.open_wanted()
    assert one.open_any().manifest.threshold.value == 0.05


def test_a_running_pipeline_changes_bundles_between_two_windows(site):
    one = trusted(site)
    bundle = one.open_any()
    done = threading.Event()

    class Feed:
        live = True

        def start(self): ...

        def blocks(self):
            at = 0.0
            while not done.wait(0.005):
                yield AudioBlock(tone(0.25, seed=int(at * 4)), RATE, at, 1e9 + at, False, "feed")
                at += 0.25

        def stop(self):
            done.set()

        attempts = 0

        def faults(self):
            return {}

    listener = Listener()
    pipelines = []
    swapper = BundleSwapper(
        lambda _: pipelines[0], lambda *_: None, watch_seconds=0.3, trial_windows=3
    )  # fmt: skip
    config = MachineConfig(name="pump", bundle=site / "pump", source="replay:x")
    pipelines.append(
        Pipeline(config, swapper.add("pump", one, bundle, ledger(site, [])), Feed(), to(listener))
    )
    pipelines[0].start()
    swapper.start()
    try:
        time.sleep(0.5)
        replace_export(site, threshold=0.07)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (
            (site / "state/bank/pump/good").is_dir()
            and listener.decisions
            and listener.decisions[-1].threshold == 0.07
        ):
            time.sleep(0.05)
    finally:
        swapper.stop()
        pipelines[0].stop()
        pipelines[0].join(5)
    thresholds = [decision.threshold for decision in listener.decisions]
    assert thresholds[0] == 0.05
    assert thresholds[-1] == 0.07
    assert thresholds == sorted(thresholds)
    assert pipelines[0].fault is None
    assert all(decision.score.value is not None for decision in listener.decisions)


@pytest.mark.parametrize("content", [b"", b"[]", b'{"digests": 3}', b"\xff", b"[" * 9999])
def test_a_damaged_list_of_refused_bundles_is_ignored(site, content):
    folder = site / "state" / "bank" / "pump"
    folder.mkdir(parents=True)
    (folder / "refused.json").write_bytes(content)
    trusted(site).open_any().close()


def kinds(told):
    return [event.kind.value for event in told]


def test_every_change_of_bundle_is_told_with_both_digests(site, running):
    swapper, judge = running
    first = read_manifest(site / "pump").digest
    assert swapper.told == []
    replace_export(site, threshold=0.07)
    second = read_manifest(site / "pump").digest
    swapper.handle({"machine": "pump", "operator": "A. Meier"})
    (event,) = swapper.told
    assert (event.kind.value, event.old_digest, event.new_digest) == ("swapped", first, second)
    assert event.reason == "asked for by A. Meier"
    assert (event.bundle, event.rows, event.threshold) == ("pump", 5, 0.07)
    judge.hear(3)
    attend(swapper)
    replace_export(site, threshold=0.08)
    third = read_manifest(site / "pump").digest
    swapper.reload("pump")
    swapper.uses["pump"].trial.failed = "no number"
    attend(swapper)
    assert kinds(swapper.told) == ["swapped", "swapped", "rolled_back"]
    event = swapper.told[-1]
    assert (event.old_digest, event.new_digest) == (third, second)
    assert "no number" in event.reason
    # What failed is refused when it is asked for again, and told so once.
    for _ in range(2):
        with pytest.raises(BundleError):
            swapper.reload("pump")
    assert kinds(swapper.told)[3:] == ["refused"]
    event = swapper.told[-1]
    assert (event.old_digest, event.new_digest) == (second, third)
    assert "not tried again" in event.reason


def test_a_refused_bundle_that_cannot_be_read_is_told_without_its_digest(site, running):
    swapper, _ = running
    (site / "pump" / MANIFEST).write_text("{")
    with pytest.raises(BundleError):
        swapper.reload("pump")
    (event,) = swapper.told
    assert (event.kind.value, event.new_digest) == ("refused", None)
    assert MANIFEST in event.reason


def test_a_change_of_bundle_outlives_a_crash_before_it_was_told(site, running):
    swapper, _ = running
    bundle = swapper.bundle("pump")

    def crash(event):
        told.append(event)
        raise KeyboardInterrupt

    told, again = [], []
    path = site / "state/state/bundles/pump.json"
    other = replace(bundle, manifest=bundle.manifest.model_copy(update={"digest": "f" * 64}))
    dying = BundleLedger(path, crash)
    dying.begin(bundle)
    with pytest.raises(KeyboardInterrupt):
        dying.swapped(bundle, other, "asked for")
    BundleLedger(path, again.append).begin(other)
    assert [event.id for event in again] == [event.id for event in told]
    later = []
    BundleLedger(path, later.append).begin(other)
    assert later == []


def test_a_bundle_exchanged_while_the_agent_was_off_is_told_at_its_start(site, running):
    swapper, _ = running
    first = swapper.bundle("pump").manifest.digest
    replace_export(site, threshold=0.07)
    bundle, told = trusted(site).open_any(), []
    ledger(site, told).begin(bundle, "the wanted one is damaged", "e" * 64)
    bundle.close()
    assert kinds(told) == ["swapped", "refused"]
    assert (told[0].old_digest, told[0].reason) == (first, "found at the start")
    assert told[1].new_digest == "e" * 64
    # A damaged file claims nothing, and is begun anew.
    path = site / "state/state/bundles/pump.json"
    path.write_text("{]")
    ledger(site, told).begin(bundle)
    assert len(told) == 2
    assert json.loads(path.read_text())["digest"] == bundle.manifest.digest


def test_machines_of_one_bundle_share_all_of_it_and_those_of_one_graph_the_encoder(site):
    shutil.copytree(site / "pump", site / "twin")
    first = trusted(site).open_wanted()
    twin = TrustedBundle(site / "twin", site / "state", "twin", OPENING).open_wanted()
    shared = with_session_of(twin, [first])
    assert (shared.scorer, shared.bank, shared.encoder) == (
        first.scorer, first.bank, first.encoder,
    )  # fmt: skip
    assert shared.path == twin.path
    retrained = replace(first, manifest=first.manifest.model_copy(update={"hop_seconds": 2.0}))
    own = with_session_of(replace(twin, manifest=retrained.manifest), [first])
    assert own.encoder is first.encoder
    assert own.scorer is twin.scorer
    first.close()

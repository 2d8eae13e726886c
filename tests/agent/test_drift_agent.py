"""The drift monitor in the running agent: slow change warns, health does not, nothing is lost."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from support.broker import Broker, Subscriber
from support.bundles import RATE, WINDOW, write
from support.drift import add_baseline, machine
from support.told import Listener, to

from agent.bank.draft import draft_add
from agent.bank.grow import make_version
from agent.bank.sound import embed_sound, find_sound
from agent.bundle.manifest import DRIFT
from agent.bundle.seal import seal
from agent.config.agent import MachineConfig
from agent.core.errors import BundleError
from agent.core.records import AudioBlock, Window
from agent.deploy.load import open_bundle
from agent.deploy.versions import Versions, beside
from agent.drift.baseline import DriftError
from agent.drift.events import DriftEvent
from agent.drift.service import DriftService, Heard
from agent.pipeline.pipeline import Pipeline

AUSCULT = (sys.executable, "-m", "agent.cli", "run")
WORN = 0.02  # amplitude of the new tone; the machine's own have 0.1 and 0.05


@pytest.fixture(scope="module")
def drifting(tiny_bundle, tmp_path_factory):
    return add_baseline(tiny_bundle, tmp_path_factory.mktemp("drift") / "bundle")


@pytest.fixture(scope="module")
def other(tiny_bundle, tmp_path_factory):
    """Of the same machine, from other recordings: another baseline."""
    return add_baseline(tiny_bundle, tmp_path_factory.mktemp("drift") / "other", seed=1)


@pytest.fixture
def bundle(drifting):
    opened = open_bundle(drifting)
    yield opened
    opened.close()


class Live:
    """A live source of a given sound, quickly; then of nothing, until stopped."""

    live = True

    def __init__(self, sound) -> None:
        self.sound, self.stopped = sound, False

    def start(self) -> None: ...

    def blocks(self):
        for start in range(0, len(self.sound), WINDOW):
            part = self.sound[start : start + WINDOW]
            yield AudioBlock(part, RATE, 5 + start / RATE, 1e9 + start / RATE, origin="mic")
        while not self.stopped:
            time.sleep(0.005)

    def stop(self) -> None:
        self.stopped = True

    attempts = 0

    def faults(self):
        return {}


@pytest.fixture
def run(tmp_path, drifting, bundle):
    running = []

    def begin(sound, *, bundle=bundle, hop=1.0, **source):
        config = MachineConfig(
            name="pump", bundle=drifting, source={"kind": "microphone"}, hop_seconds=hop,
            queue_windows=5000,
        )  # fmt: skip
        listener = Listener()
        pipeline = Pipeline(config, bundle, Live(sound), to(listener), state=tmp_path / "state")
        running.append(pipeline)
        pipeline.start()
        windows = int((len(sound) - WINDOW) / RATE / hop) + 1
        until(lambda: len(listener.decisions) == windows)
        return pipeline, listener

    yield begin
    for pipeline in running:
        end(pipeline)


def until(true, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end(pipeline):
    pipeline.stop()
    assert pipeline.join(60)


def test_slow_change_warns_and_health_does_not(run):
    _, healthy = run(machine(200, seed=7))
    assert healthy.kinds == []
    assert len(healthy.statuses) > 20
    _, heard = run(machine(200, seed=7, wear=np.linspace(0, WORN, 200)))
    assert heard.kinds == ["warned"]
    (event,) = heard.drifts
    assert event.status.movement
    assert heard.statuses[-1].warning_id == event.warning_id
    assert heard.statuses[-1].distance > heard.statuses[-1].threshold
    # Drift is no alarm: its life is its own.
    assert {decision.level.value for decision in heard.decisions} == {"normal"}


def test_windows_that_overlap_are_taken_once(run):
    """At half the hop the monitor sees as many windows as at the whole one."""
    _, whole = run(machine(60, seed=7))
    _, half = run(machine(60, seed=7), hop=0.5)
    assert len(half.decisions) > 1.9 * len(whole.decisions)
    assert abs(len(half.statuses) - len(whole.statuses)) <= 1


def test_silence_and_a_machine_that_is_worked_on_are_no_evidence(run):
    pipeline, heard = run(np.zeros(40 * WINDOW, np.float32))
    assert len(heard.decisions) == 40
    assert heard.statuses == []
    end(pipeline)


def test_a_warning_and_what_was_accepted_outlive_the_process(run, tmp_path):
    first, heard = run(machine(60, seed=7, wear=WORN))
    assert heard.kinds == ["warned"]
    end(first)
    second, again = run(machine(20, seed=8, wear=WORN))
    assert again.kinds == []
    assert again.statuses[0].warning_id == heard.drifts[0].warning_id
    second.drift.accept("ann", "new fan", warning_id=heard.drifts[0].warning_id)
    assert again.kinds == ["accepted"]
    assert not second.drift.status.active
    end(second)
    saved = json.loads((tmp_path / "state/drift/pump.json").read_bytes())
    assert saved["monitors"][-1]["references"][1]["operator"] == "ann"
    _, last = run(machine(60, seed=9, wear=WORN))
    assert last.kinds == []
    assert last.statuses[-1].reference == 1
    # A further change is one again: nothing was learnt but what was accepted.
    _, more = run(machine(60, seed=9, wear=3 * WORN))
    assert "warned" in more.kinds


def test_a_corrupt_state_is_moved_aside(run, tmp_path, caplog):
    place = tmp_path / "state/drift/pump.json"
    place.parent.mkdir(parents=True)
    place.write_text('{"baseline": "')
    _, heard = run(machine(60, seed=7, wear=WORN))
    assert heard.kinds == ["warned"]
    assert place.with_name("pump.json.damaged").read_text() == '{"baseline": "'
    assert "drift begins anew" in caplog.text


def test_a_state_that_does_not_fit_its_baseline_is_moved_aside(run, tmp_path):
    first, _ = run(machine(30, seed=7))
    end(first)
    place = tmp_path / "state/drift/pump.json"
    saved = json.loads(place.read_bytes())
    saved["monitors"][-1]["buffer"] = [[0.0]]
    place.write_text(json.dumps(saved))
    _, heard = run(machine(60, seed=7, wear=WORN))
    assert heard.kinds == ["warned"]
    assert place.with_name("pump.json.damaged").exists()


def test_another_baseline_ends_the_warning_and_the_old_one_comes_back_as_it_was(
    run, other, drifting
):
    pipeline, heard = run(machine(60, seed=7, wear=WORN))
    status = pipeline.drift.accept("ann")
    # Text and number say the same: it sounds as it may.
    assert (status.active, status.exceeded, status.movement, status.bands) == (False, False, "", ())
    assert (status.distance, status.reference) == (0.0, 1)
    new = open_bundle(other)
    pipeline.use_bundle(new)
    assert pipeline.drift.status is None
    with pytest.raises(DriftError):
        pipeline.drift.accept("ann")
    pipeline.use_bundle(open_bundle(drifting))
    end(pipeline)
    # What was accepted is remembered with its baseline.
    _, again = run(machine(60, seed=9, wear=WORN))
    assert (heard.kinds, again.kinds) == (["warned", "accepted"], [])
    new.close()


def test_a_grown_bank_leaves_drift_as_it_stands(run, drifting, tmp_path):
    """A version of the bundle's bank has its baseline: the warning goes on, nothing is told."""
    pipeline, heard = run(machine(60, seed=7, wear=WORN))
    write(tmp_path / "new/0.wav", machine(8, seed=3))
    copy = shutil.copytree(drifting, tmp_path / "pump")
    parent = open_bundle(copy)
    draft = draft_add(parent, embed_sound(find_sound([tmp_path / "new"], label="healthy"), parent))
    versions = Versions(copy, beside(copy))
    report = make_version(parent, versions, draft, max_rise=1e9)
    parent.close()
    grown = open_bundle(versions.path(report.version))
    before = pipeline.drift.status
    pipeline.use_bundle(grown)
    assert grown.manifest.drift is not None
    assert pipeline.drift.status == before
    assert before.active
    assert heard.kinds == ["warned"]
    grown.close()


def test_a_standing_warning_ends_when_the_bundle_changes_between_two_runs(run, other):
    first, heard = run(machine(60, seed=7, wear=WORN))
    end(first)
    new = open_bundle(other)
    _, again = run(machine(30, seed=7), bundle=new)
    assert (heard.kinds, again.kinds) == (["warned"], ["cleared"])
    assert again.drifts[0].warning_id == heard.drifts[0].warning_id
    assert not again.statuses[0].active
    new.close()


def test_a_crash_while_telling_tells_it_again_with_the_same_id(bundle, tmp_path):
    vectors = bundle.encoder.encode(machine(40, seed=7, wear=WORN).reshape(-1, WINDOW))
    told = []

    class CrashError(Exception):
        pass

    def keep(happened):
        if isinstance(happened, DriftEvent):
            told.append(happened)

    def die(happened):
        keep(happened)
        if told:
            raise CrashError

    keeper = DriftService(die, tmp_path / "pump.json")
    keeper.resume(bundle.drift, 1.0)

    def listen():
        for n, vector in enumerate(vectors):
            window = Window(np.zeros(WINDOW, np.float32), RATE, n, float(n), 1e9 + n)
            keeper.observe(Heard(window, vector, bundle.drift))

    with pytest.raises(CrashError):
        listen()
    for _ in range(2):
        again = DriftService(keep, tmp_path / "pump.json")
        again.resume(bundle.drift, 1.0)
        assert again.status.active
    assert len(told) == 2
    assert told[0] == told[1]


def test_a_bundle_whose_baseline_is_of_another_encoder_is_refused(tiny_bundle, tmp_path, drifting):
    copy = add_baseline(tiny_bundle, tmp_path / "copy")
    record = json.loads((copy / DRIFT).read_bytes())
    record["features"].append("one more")
    for name in ("centre", "scale"):
        record["reducer"][name].append(1.0)
    for axis in record["reducer"]["axes"]:
        axis.append(0.0)
    (copy / DRIFT).write_text(json.dumps(record))
    with pytest.raises(BundleError, match=r"drift\.json"):
        open_bundle(copy)  # the checksum
    opened = open_bundle(drifting)
    opened.close()
    seal(copy, opened.manifest)
    with pytest.raises(BundleError, match="17 features"):
        open_bundle(copy)


def test_drift_reaches_a_real_broker_and_is_accepted_from_there(tmp_path, drifting):
    """Through `auscult run`: the state, the event, Home Assistant's entity, and the command."""
    write(tmp_path / "sound/0.wav", machine(60, seed=7, wear=WORN))
    with Broker(tmp_path / "broker") as broker, Subscriber(broker.port) as live:
        config = tmp_path / "agent.yaml"
        config.write_text(
            f"""
device: dev
state_dir: {tmp_path / "state"}
mqtt: {{host: 127.0.0.1, port: {broker.port}, home_assistant: {{enabled: true}}}}
commands: {{trust_broker: true}}
machines:
  - name: pump
    bundle: {drifting}
    hop_seconds: 1.0
    queue_windows: 8
    source: {{kind: replay, paths: [{tmp_path / "sound"}], speed: max, loop: true}}
"""
        )
        process = subprocess.Popen(
            [*AUSCULT, "--config", config], stderr=subprocess.PIPE, text=True
        )
        try:
            event = live.wait(
                "pump/event", lambda m: m["type"] == "auscult.drift.warned", seconds=60
            )
            warning = event["data"]["warning_id"]
            state = live.wait("pump/drift", lambda m: m["active"])
            assert state["warning_id"] == warning
            assert "drift" in live.wait("auscult_dev/pump/config")["components"]
            request = {"transaction": "t1", "machine": "pump", "warning_id": "another"}
            topic = "auscult/dev/request/drift_accept"
            live.publish(topic, request)
            refused = live.wait("response/drift_accept", lambda m: m["transaction"] == "t1")
            assert "operator" in refused["error"]
            request = {**request, "transaction": "t2", "operator": "ann"}
            live.publish(topic, request)
            refused = live.wait("response/drift_accept", lambda m: m["transaction"] == "t2")
            assert "not the present" in refused["error"]
            live.publish(topic, {**request, "transaction": "t3", "warning_id": warning})
            answer = live.wait("response/drift_accept", lambda m: m["transaction"] == "t3")
            assert answer["status"] == "ok"
            accepted = live.wait("pump/event", lambda m: m["type"] == "auscult.drift.accepted")
            assert accepted["data"]["operator"] == "ann"
            live.wait("pump/drift", lambda m: m["reference"] == 1 and not m["active"])
        finally:
            process.terminate()
            _, err = process.communicate(timeout=60)
        assert "Traceback" not in err, err

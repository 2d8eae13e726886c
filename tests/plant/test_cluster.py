"""`auscult plant build --ray`: a real cluster of several nodes, one of which dies in the middle."""

from __future__ import annotations

import json
import re
import threading
import time

import pytest
import yaml
from click.testing import CliRunner
from support.healthy import folder

from plant.commands.build import build

MACHINES = tuple(f"pump{n}" for n in range(6))


@pytest.fixture
def cluster(monkeypatch):
    """Three nodes of a core each."""
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'auscult[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    size = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    made = Cluster(initialize_head=True, head_node_args={**size, "include_dashboard": False})
    nodes = [made.add_node(**size) for _ in range(2)]
    yield made, nodes
    made.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_node_that_dies_loses_nothing_and_nothing_is_done_twice(cluster, tmp_path):
    made, nodes = cluster
    for name in MACHINES:
        folder(tmp_path / name, normal=5, still=0)
    path = tmp_path / "plant.yaml"
    machines = [{"name": name, "data": name} for name in MACHINES]
    defaults = {"method": "learn", "sound": False}
    path.write_text(yaml.safe_dump({"plant": "hall", "defaults": defaults, "machines": machines}))
    out = tmp_path / "plant"
    finished_before: list[str] = []

    def kill_one():
        """Once some machines are done and others have begun on every node."""
        while not finished_before:
            done = [p.parent.name for p in out.glob("machines/*/outcome.json")]
            begun = [p.name for p in out.glob("work/*")]
            if done and len(begun) >= 3:
                finished_before.extend(done)
            time.sleep(0.05)
        made.remove_node(nodes[0], allow_graceful=False)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    result = CliRunner().invoke(build, [str(path), f"--ray={made.address}"])
    killer.join(30)

    assert result.exit_code == 0, result.output
    assert "Ray cluster of 3 nodes" in result.output
    assert finished_before
    assert not killer.is_alive()
    attempts, written = {}, {}
    for name in MACHINES:
        log = (out / f"logs/{name}.log").read_text()
        attempts[name] = len(re.findall(r"^attempt ", log, re.MULTILINE))
        written[name] = len(re.findall(r"^wrote ", log, re.MULTILINE))
        record = json.loads((out / f"machines/{name}/outcome.json").read_text())
        assert record["state"] == "built"
        assert f"attempt {record['attempt']} " in log
    # What was recorded as done was done once; what was under way on the dead node was begun anew,
    # and no other. (It may have been written there, and not recorded yet, when the node died.)
    assert all(written[name] == attempts[name] == 1 for name in finished_before), attempts
    assert all(1 <= written[name] <= attempts[name] for name in MACHINES), (written, attempts)
    # One more where the dead node was at work; none where it was between two machines.
    assert len(MACHINES) <= sum(attempts.values()) <= len(MACHINES) + 1, attempts

    again = CliRunner().invoke(build, [str(path), f"--ray={made.address}"])
    assert again.exit_code == 0
    assert {one["state"] for one in json.loads((out / "summary.json").read_text())["machines"]} == {
        "kept"
    }


def test_no_cluster_is_a_clear_fault(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'auscult[ray]'")
    from plant.learn.cluster import RayCluster
    from plant.learn.task import PlantError

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(PlantError, match=r"no Ray cluster at 'auto'.*ray start --head"):
        RayCluster("auto", 1).start()

"""The files for Prometheus and Grafana, held against a real Prometheus and what the agent really tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from support.broker import free_port
from support.bundles import FAULTY_HZ, build_bundle, tone, write
from support.nspawn import wait_for

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "packaging" / "prometheus"
RULES = PROMETHEUS / "auscult.rules.yml"
DASHBOARD = ROOT / "packaging" / "grafana" / "auscult.json"
_NAMES = re.compile(r"\bauscult_[a-z_]+\b")


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install prometheus)")
    return found


def rules() -> list[dict]:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def targets() -> list[str]:
    """Every expression of the dashboard, with Grafana's own variables filled in as it does."""
    filled = {"$device": ".*", "$machine": ".*", "$__rate_interval": "1m"}
    found = []
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for variable, value in filled.items():
                expression = expression.replace(variable, value)
            found.append(expression)
    return found


def test_no_metric_is_named_that_the_agent_does_not_have():
    # Which list is the agent's own: test_health_metrics.
    page = (ROOT / "docs/guide/service.md").read_text(encoding="utf-8")
    there = set(_NAMES.findall(page))
    guide = (ROOT / "docs/guide/prometheus-grafana.md").read_text(encoding="utf-8")
    named = {
        "rules": " ".join(rule["expr"] for rule in rules()),
        "dashboard": DASHBOARD.read_text(encoding="utf-8"),
        "guide": guide,
    }
    for where, text in named.items():
        used = set(_NAMES.findall(text))
        assert used
        assert used <= there, where


def test_promtool_accepts_rules_and_configuration_and_the_rules_do_what_they_say():
    promtool = tool("promtool")
    for words in (
        ("check", "rules", RULES.name),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "auscult.rules.test.yml"),
    ):
        done = subprocess.run(
            [promtool, *words], cwd=PROMETHEUS, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_says_what_and_to_whom():
    for rule in rules():
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert rule["labels"]["team"] in {"plant", "devices"}


def test_the_guide_lists_every_alert():
    guide = (ROOT / "docs/guide/prometheus-grafana.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`((?:Machine|Auscult)[A-Z]\w+)`", guide)) == {
        rule["alert"] for rule in rules()
    }


def test_the_dashboard_s_expressions_are_promql(tmp_path):
    promtool = tool("promtool")
    recorded = [{"record": f"panel:{n}", "expr": one} for n, one in enumerate(targets())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recorded}]}))
    done = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dashboard_s_panels_have_a_place_of_their_own():
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]


_AGENT = """\
device: hall-2
machines:
- name: pump
  bundle: bundle
  hop_seconds: 0.5
  source: {{kind: replay, paths: [sound], loop: true}}
  decide: {{latch: true, raise_seconds: 2, of_seconds: 3}}
metrics: {{port: {metrics}}}
mqtt: {{host: 127.0.0.1, port: {nobody}}}
state_dir: state
"""


def api(port: int, path: str, **query: str):
    url = f"http://127.0.0.1:{port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]
    except OSError:
        return None


@pytest.mark.slow
def test_a_real_prometheus_scrapes_a_running_agent_and_its_alarm_fires(tmp_path):
    prometheus = tool("prometheus")
    shutil.copytree(build_bundle(tmp_path / "b" / "tiny"), tmp_path / "bundle")
    write(tmp_path / "sound" / "1.wav", tone(20, FAULTY_HZ, seed=2))
    metrics, own, nobody = free_port(), free_port(), free_port()
    config = tmp_path / "agent.yaml"
    config.write_text(_AGENT.format(metrics=metrics, nobody=nobody))
    settings = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["scrape_configs"][0]["static_configs"][0]["targets"] = [f"127.0.0.1:{metrics}"]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(settings))
    shutil.copy(RULES, tmp_path)
    with (tmp_path / "log").open("wb") as log:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "agent.cli", "run", "--config", config],
                cwd=ROOT, stdout=log, stderr=log,
            ),
            subprocess.Popen(
                [prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
                 f"--web.listen-address=127.0.0.1:{own}"],
                cwd=tmp_path, stdout=log, stderr=log,
            ),
        ]  # fmt: skip
        try:

            def firing():
                alerts = (api(own, "alerts") or {"alerts": []})["alerts"]
                return {
                    (one["labels"]["alertname"], one["labels"].get("machine"))
                    for one in alerts
                    if one["state"] == "firing"
                }

            wait_for(lambda: ("MachineSoundsWrong", "pump") in firing(), 120)
            # All rules are loaded, and none fails on what the agent tells.
            groups = api(own, "rules")["groups"]
            loaded = [rule for group in groups for rule in group["rules"]]
            assert len(loaded) == len(rules())
            assert {rule["health"] for rule in loaded} == {"ok"}
            # Away, the broker is no alert yet (15 minutes), but is waiting to be one.
            states = {rule["name"]: rule["state"] for rule in loaded}
            assert states["AuscultBrokerAway"] == "pending"
            assert states["AuscultAgentDown"] == "inactive"
            # Every question of the dashboard is answered, those about what stands with a figure.
            answers = {one: api(own, "query", query=one)["result"] for one in targets()}
            empty = {one for one, result in answers.items() if not result}
            assert all(
                re.search(r"invalid|faults|drift|level_change|rate\(", one) for one in empty
            ), empty
            alarms = next(one for one in answers if "== bool 2" in one)
            assert float(answers[alarms][0]["value"][1]) == 1
            # The agent dies: that is told as such.
            running[0].kill()
            wait_for(lambda: _state(own, "AuscultAgentDown") == "pending", 30)
        finally:
            for process in running:
                process.kill()
                process.wait()


def _state(port: int, name: str) -> str:
    groups = api(port, "rules")["groups"]
    return next(r["state"] for group in groups for r in group["rules"] if r["name"] == name)

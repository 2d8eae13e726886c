"""The floor plan of the house: which room may import which, from the ground up."""

import ast
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A room imports rooms on lower floors alone, never its neighbours or what lies above.
FLOORS = (
    ("core",),
    ("charts", "config", "drift", "cli"),
    ("bundle",),
    ("encode", "score", "window"),
    ("activity", "calibrate", "capture", "explain", "monitor"),
    ("chain", "decide", "deploy", "drift_fit", "recordings"),
    ("foreign", "hygiene", "level", "pace", "tune", "verdict"),
    ("learn", "machine", "publish"),
    ("evidence", "history", "notify", "offline", "recognition"),
    ("report", "request"),
    ("collect", "commission"),
    ("bank", "pipeline"),
    ("extensions", "web"),
    ("listeners",),
    ("backup", "doctor", "service"),
    ("commands",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
PACKAGES = {
    "agent": {"agent"},
    "trainer": {"agent", "trainer"},
    "export": {"agent", "trainer", "export"},
    "plant": {"agent", "plant"},
}
# Of the agent, the plant knows what is said over MQTT and the ground floor that says it; it learns by
# the command line, and nothing of the agent's own runs in it.
PLANT_MAY_IMPORT = {
    "agent.__version__": "told to clients",
    "agent.bundle.events": "schemas of messages",
    "agent.bundle.offer": "schemas of messages",
    "agent.commands.options": "`--json` means the same in every command",
    "agent.core.broker": "how a broker is named and logged in to",
    "agent.core.child": "the command line that it runs",
    "agent.core.cloud_event": "schemas of messages",
    "agent.core.errors": "what `auscult` turns into words",
    "agent.core.fields": "schemas of messages",
    "agent.core.json_request": "how a page's server reads JSON and refuses it",
    "agent.core.levels": "schemas of messages",
    "agent.core.paths": "paths in YAML",
    "agent.core.progress": "how long work is shown",
    "agent.core.program": "the commands that it runs, and names next",
    "agent.core.same_origin": "one check of whose page a request comes from",
    "agent.core.schema": "how YAML is checked, and faults are told",
    "agent.core.secret_file": "secrets come from files",
    "agent.core.server_thread": "one way to serve HTTP in a thread",
    "agent.core.storage": "files that are whole or not there",
    "agent.core.tls": "how the connection to a broker is encrypted",
    "agent.core.text": "how times and numbers are shown",
    "agent.drift.events": "schemas of messages",
    "agent.publish.cloud_events": "schemas of messages",
    "agent.publish.device_payloads": "schemas of messages",
    "agent.publish.kinds": "schemas of messages, and their topics",
    "agent.publish.payloads": "schemas of messages",
    "agent.publish.route": "topics",
    "agent.report.page": "one look for all reports",
    "agent.request.commands": "schemas of commands",
    "agent.web.common": "scripts that both pages take",
}


def _imports(path):
    """Modules that a file imports, lazily or not."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if "." in node.module:
                yield node.module
            else:
                yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def _edges():
    """Imports from one room of the agent into another: `(room, room) -> files`."""
    found = defaultdict(set)
    for path in sorted((ROOT / "agent").rglob("*.py")):
        room = path.relative_to(ROOT / "agent").with_suffix("").parts[0]
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] != "agent" or len(parts) < 2 or parts[1].startswith("__"):
                continue
            if room not in {"__init__", parts[1]}:
                found[room, parts[1]].add(str(path.relative_to(ROOT)))
    return found


def test_every_room_has_a_floor():
    rooms = {
        path.stem
        for path in (ROOT / "agent").iterdir()
        if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
    }

    assert rooms == set(FLOOR)


def test_no_import_climbs():
    climbing = [
        f"{room} (floor {FLOOR[room]}) imports {other} (floor {FLOOR[other]}): {', '.join(sorted(files))}"
        for (room, other), files in _edges().items()
        if FLOOR[room] <= FLOOR[other]
    ]

    assert not climbing, "\n".join(climbing)


def test_no_folders_import_each_other_in_a_circle():
    graph = defaultdict(set)
    for room, other in _edges():
        graph[room].add(other)

    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_files_import_each_other_in_a_circle():
    """Lazy imports count: they hide a circle, they do not undo it."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if path.stem != "__init__"
    }
    graph = {
        name: {other for other in _imports(path) if other in files} for name, path in files.items()
    }

    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package):
    ours = {"agent", "trainer", "export", "plant", "tools", "tests", "benchmarks"}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / package).rglob("*.py")
        for name in _imports(path)
        if name.split(".")[0] in ours - PACKAGES[package]
    ]

    assert not wrong


def test_the_plant_imports_messages_of_the_agent_alone():
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in (ROOT / "plant").rglob("*.py")
        for name in _imports(path)
        if name.split(".")[0] == "agent" and name not in PLANT_MAY_IMPORT
    ]

    assert not wrong, "\n".join(wrong)


def test_messages_bring_no_part_of_the_agent_that_listens():
    """Whatever the plant may import loads neither sound, nor graphs, nor the trainer."""
    modules = [name for name in PLANT_MAY_IMPORT if not name.endswith("__version__")]
    code = (
        f"import importlib, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    heavy = {"torch", "onnxruntime", "sounddevice", "soundfile", "trainer", "export"}
    assert not heavy & set(done.stdout.split())

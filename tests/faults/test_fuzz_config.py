"""Whatever stands in agent.yaml, the user is told in words, and soon."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.config.agent import AgentConfig, load_config
from agent.core.errors import ConfigError

SAMPLE = (Path(__file__).parents[2] / "configs" / "agent.yaml").read_text()
_LONGEST = 5.0  # of this process's own time, seconds

# What is found in configurations, and what should not be.
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=4)
    | st.sampled_from(
        ["replay:x", "microphone", "microphone:3", "ffmpeg:", "~nobody-of-that-name/x", "$HOME",
         "${", "\x00", "../..", "pump", "5", "auto", "1e400", "é" * 300, "\ud800"]
    )
)  # fmt: skip
KEYS = st.sampled_from(
    [*AgentConfig.model_fields, "name", "bundle", "source", "kind", "paths", "command", "rate",
     "decide", "alert", "threshold", "false_alarms", "host", "port", "tls", "ca_file", "validity",
     "condition", "path", "max_bytes", "channel", "hop_seconds", "public_key", "schedule"]
) | st.text(max_size=6)  # fmt: skip
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("config")


def read(folder: Path, data: bytes) -> AgentConfig | None:
    """The configuration, or None when it was refused as it must be."""
    path = folder / "agent.yaml"
    path.write_bytes(data)
    begun = time.process_time()
    try:
        config = load_config(path)
        # What is looked up first.
        assert config.device_name
        assert config.state_path
    except ConfigError as fault:
        said = str(fault)
    else:
        return config
    finally:
        assert time.process_time() - begun < _LONGEST
    assert "agent.yaml" in said
    assert len(said) < 10_000
    return None


RUNS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@RUNS
@given(tree=TREES)
def test_any_tree(folder, tree):
    read(folder, yaml.safe_dump(tree, allow_unicode=False).encode())


@RUNS
@given(
    machine=st.fixed_dictionaries(
        {"name": st.just("p") | SCALARS, "bundle": st.just("b") | SCALARS, "source": TREES},
        optional={"decide": TREES, "validity": TREES, "hop_seconds": SCALARS},
    ),
    rest=st.dictionaries(KEYS, TREES, max_size=3),
)
def test_nearly_right_ones(folder, machine, rest):
    read(folder, yaml.safe_dump({**rest, "machines": [machine]}).encode())


@RUNS
@given(st.data())
def test_the_sample_with_characters_changed(folder, data):
    text = bytearray(SAMPLE.encode())
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        action = data.draw(st.sampled_from(["replace", "remove", "repeat", "insert"]))
        if action == "replace":
            text[at] = data.draw(st.integers(0, 255))
        elif action == "remove":
            del text[at : at + data.draw(st.integers(1, 30))]
        elif action == "repeat":
            text[at:at] = text[at : at + data.draw(st.integers(1, 200))]
        else:
            text[at:at] = data.draw(
                st.sampled_from([b"&a ", b"*a", b"!!bool ", b"? ", b"<<: ", b"- ", b"[", b"{", b"\t",
                                 b"|", b"%YAML 9", b"---\n", b"!!python/name:os ", b"!!set "])
            )  # fmt: skip
    read(folder, bytes(text))


@RUNS
@given(st.binary(max_size=300))
def test_any_bytes(folder, data):
    read(folder, data)


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "text",
    [
        "? [a, b]\n: 1\n",
        "? {a: b}\n: 1\n",
        "a: !!bool maybe",
        "a: !!int ''",
        "a: !!timestamp soon",
        "a: !!float x",
        "!!set {a, [b]}",
        "&a [*a]",
        "machines: &a {x: *a}",
        "a: 2001-13-45",
        "a: 0x",
        "<<: 5",
        "[" * 3000,
        "{a: " * 3000,
        LAUGHS,
        LAUGHS + "machines: *a29\n",
        LAUGHS + "machines: [{name: *a29, bundle: b, source: microphone}]\n",
        f"machines: [{{name: {'x' * 3_000_000}, bundle: b, source: microphone}}]\n",
        "machines: [{name: p, bundle: ~nobody-of-that-name/b, source: microphone}]",
        "machines: [{name: p, bundle: 9" + "9" * 5000 + ", source: microphone}]",
        'machines: [{name: p, bundle: "a\\0b", source: microphone}]',
        "\ufeffmachines: []",
        "y" * 1000 + ": 1\n",
        f"? {'y' * 1_000_000}\n: 1\n",
        "".join(f"machin{n}: 1\n" for n in range(20_000)),
    ],
    ids=range(25),
)
def test_known_traps(folder, text):
    assert read(folder, text.encode()) is None

"""The unit: what systemd makes of it, how exposed it is, and that nobody's changes are lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.commands.install_service import install_service
from agent.core.errors import AuscultError
from agent.doctor.unit import (
    PLAIN,
    TEMPLATE,
    Installation,
    changed_by_hand,
    out_of_reach,
    render,
    surroundings,
    write_unit,
)

SYSTEMD = Path(__file__).parents[2] / "systemd"
ANALYZE = shutil.which("systemd-analyze")
needs_analyze = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def installed(config="/etc/auscult/agent.yaml", **changes):
    fields = {
        "command": (sys.executable, "-m", "agent.cli"),
        "config": Path(config),
        "systemd": 252,
    }
    return Installation(**{**fields, **changes})


def analyze(*words):
    return subprocess.run([ANALYZE, *words], capture_output=True, text=True, check=False)


@needs_analyze
@pytest.mark.parametrize(
    ("name", "config"),
    [(PLAIN, "/etc/auscult/agent.yaml"), (TEMPLATE, "/etc/auscult/%i.yaml")],
)
@pytest.mark.parametrize("user", [None, "root"])
def test_systemd_understands_every_line(tmp_path, name, config, user):
    unit = tmp_path / name.replace("@", "@one")
    unit.write_text(render(name, installed(config, user=user)))
    done = analyze("verify", unit)
    assert done.returncode == 0
    # Other units of this machine may have their faults.
    assert unit.name not in done.stderr


@needs_analyze
@pytest.mark.parametrize("name", [PLAIN, TEMPLATE])
def test_exposure_is_at_most_two(name):
    done = analyze("security", "--offline=true", "--threshold=20", "--no-pager", SYSTEMD / name)
    assert done.returncode == 0, done.stdout[-300:]
    # And the check can fail.
    assert analyze("security", "--offline=true", "--threshold=5", SYSTEMD / name).returncode != 0


def test_the_traps_are_avoided():
    text = (SYSTEMD / PLAIN).read_text()
    settings = [line.partition("=")[0] for line in text.splitlines() if not line.startswith("#")]
    assert not {"MemoryDenyWriteExecute", "PrivateDevices", "PrivateNetwork"} & set(settings)


def test_the_template_differs_where_it_must():
    plain, template = ((SYSTEMD / name).read_text().splitlines() for name in (PLAIN, TEMPLATE))
    keys = {
        "Description",
        "ExecStart",
        "User",
        "StateDirectory",
        "LoadCredential",
        "SyslogIdentifier",
    }

    def rest(lines):
        return [
            one
            for one in lines
            if one[:1] != "#"
            and one.partition("=")[0] not in keys
            and not one.startswith("Environment=HOME=")
        ]

    assert rest(plain) == rest(template)
    credentials = sum(line.startswith("LoadCredential=") for line in template)
    # Each of the keys once, but each credential; and the home.
    assert sum("%i" in line for line in template) == len(keys) - 1 + credentials + 1


def test_paths_and_user_are_those_of_this_installation():
    text = render(
        PLAIN, installed("/srv/my plant/a%b.yaml", command=("/opt/a/bin/auscult",), user="maint")
    )
    assert 'ExecStart=/opt/a/bin/auscult run --config "/srv/my plant/a%%b.yaml"' in text
    assert "LoadCredential=mqtt-password:/srv/my plant/mqtt-password" in text
    assert "User=maint\n" in text
    assert "DynamicUser" not in text
    assert "ProtectHome=read-only" in text


def test_a_user_of_systemd_s_making_has_a_home_and_an_existing_one_keeps_theirs():
    assert "Environment=HOME=/var/lib/auscult\n" in render(PLAIN, installed())
    assert "Environment=HOME=/var/lib/auscult-%i\n" in render(TEMPLATE, installed())
    assert "HOME=" not in render(PLAIN, installed(user="me"))


def test_surroundings_are_the_service_s_without_its_running():
    lines = surroundings(render(TEMPLATE, installed()) + "[Service]\n# a=b\nUMask=0000\n", "two")
    assert {"User=auscult-two", "DynamicUser=yes", "StateDirectory=auscult-two"} <= set(lines)
    assert "SystemCallFilter=~@privileged @resources" in lines
    assert lines[-1] == "UMask=0000"  # a drop-in's
    assert not [one for one in lines if one.startswith(("Exec", "Type", "Watchdog", "WantedBy"))]


def test_only_what_this_systemd_knows():
    assert "RestartSteps" not in render(PLAIN, installed(systemd=253))
    assert "RestartSteps" in render(PLAIN, installed(systemd=254))


def test_a_unit_changed_by_hand_is_never_lost(tmp_path):
    unit = tmp_path / PLAIN
    first, second = render(PLAIN, installed()), render(PLAIN, installed("/etc/other.yaml"))
    assert write_unit(unit, first, force=False)
    assert not write_unit(unit, first, force=False)
    assert write_unit(unit, second, force=False)  # as it was written: may be renewed
    mine = unit.read_text().replace("2min", "9min")
    assert changed_by_hand(mine)
    unit.write_text(mine)
    with pytest.raises(AuscultError, match="changed by hand"):
        write_unit(unit, first, force=False)
    assert unit.read_text() == mine
    assert write_unit(unit, first, force=True)
    assert unit.read_text() == first
    assert (tmp_path / f"{PLAIN}.old").read_text() == mine


def test_what_a_dynamic_user_cannot_read_is_told(tmp_path, monkeypatch):
    # pytest's own folder is closed to others.
    closed = tmp_path / "bundle"
    closed.mkdir()
    assert out_of_reach([Path("/etc/hostname")], user=None) == []
    assert "below /home" in out_of_reach([Path("/home/me/a")], user=None)[0]
    assert out_of_reach([Path("/home/me/a")], user="me") == []
    assert "has its own" in out_of_reach([Path("/tmp/a")], user="me")[0]
    monkeypatch.setattr("agent.doctor.unit._PRIVATE", ())
    assert "not open to others" in out_of_reach([closed], user=None)[0]
    assert out_of_reach([Path("/opt/not-there")], user=None) == []


def test_dry_run_shows_the_unit_and_writes_nothing(tmp_path):
    config = tmp_path / "agent.yaml"
    config.write_text("machines:\n- {name: pump, bundle: b, source: replay:x}\n")
    units = tmp_path / "units"
    units.mkdir()
    command = ["--config", str(config), "--unit-dir", str(units)]
    done = CliRunner().invoke(install_service, [*command, "--dry-run"])
    assert done.exit_code == 0
    assert f"--config {config}" in done.stdout
    assert "has its own" in done.stderr  # the configuration is below /tmp
    assert list(units.iterdir()) == []
    # Not for show only: it is refused.
    done = CliRunner().invoke(install_service, [*command, "--no-enable"])
    assert isinstance(done.exception, AuscultError)
    assert list(units.iterdir()) == []


def test_a_unit_that_a_package_has_brought_is_not_written_again(tmp_path, monkeypatch):
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.mkdir()
    theirs.mkdir()
    config = tmp_path / "agent.yaml"
    config.write_text("machines: [{name: pump}]\n")
    monkeypatch.setattr("agent.doctor.unit.PACKAGED", theirs)
    words = ["--config", str(config), "--user", "root", "--no-enable", "--unit-dir", str(own)]
    monkeypatch.setattr("agent.doctor.unit._PRIVATE", ())
    shown = CliRunner().invoke(install_service, [*words, "--dry-run"]).stdout
    (theirs / PLAIN).write_text(shown.partition("\n")[2])

    done = CliRunner().invoke(install_service, words)
    assert done.exit_code == 0, done.output
    assert f"{theirs / PLAIN}: came with the package" in done.output
    assert list(own.iterdir()) == []

    # Another one (of an older version, for another user) is not what was asked for.
    (theirs / PLAIN).write_text("[Service]\n")
    assert CliRunner().invoke(install_service, words).exit_code == 0
    assert [path.name for path in own.iterdir()] == [PLAIN]


def test_an_instance_is_called_as_its_configuration(tmp_path):
    config = tmp_path / "agent.yaml"
    config.write_text("machines:\n- {name: pump, bundle: b, source: replay:x}\n")
    done = CliRunner().invoke(install_service, ["--instance", "two", "--config", str(config)])
    assert isinstance(done.exception, AuscultError)
    assert "two.yaml" in str(done.exception)

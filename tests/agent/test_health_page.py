"""`auscult doctor` and `install-service` look at the device's page."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner
from support.page import Running, page_config

from agent.cli import root
from agent.config.web import WebConfig
from agent.doctor.finding import Grade
from agent.doctor.page import check_page


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def found(**web):
    return {one.name: one for one in check_page(WebConfig(enabled=True, **web))}


def test_nothing_is_said_of_a_page_that_nobody_wants():
    assert list(check_page(WebConfig())) == []


def test_a_free_port_on_loopback_is_in_order():
    findings = found(port=free_port())
    assert {one.grade for one in findings.values()} == {Grade.OK}
    assert "only this device" in findings["page's password"].text


def test_a_port_that_another_program_has_is_a_fault_and_one_of_our_own_is_not(
    tmp_path, tiny_bundle
):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        other.settimeout(0.1)
        finding = found(port=other.getsockname()[1])["page"]
    assert finding.grade is Grade.FAIL
    assert "web.port" in finding.remedy
    with Running(page_config(tmp_path, tiny_bundle, [(4, 440)])) as running:
        finding = found(port=running.agent.page.port)["page"]
    assert finding.grade is Grade.OK
    assert "the page of dev" in finding.text


def test_the_page_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    (finding,) = check_page(WebConfig(enabled=True))
    assert finding.grade is Grade.FAIL
    assert "auscult[web]" in finding.remedy


@pytest.mark.parametrize(
    ("text", "mode", "grade"),
    [
        (None, 0, Grade.FAIL),
        ("short\n", 0o600, Grade.FAIL),
        ("long enough\n", 0o644, Grade.WARN),
        ("long enough\n", 0o600, Grade.OK),
    ],
)
def test_the_password_file_is_read(tmp_path, text, mode, grade):
    file = tmp_path / "password"
    if text is not None:
        file.write_text(text)
        file.chmod(mode)
    assert found(port=free_port(), password_file=file)["page's password"].grade is grade


def test_a_page_that_lets_everybody_in_past_its_proxy_is_warned_of():
    finding = found(host="0.0.0.0", port=free_port(), behind_proxy=True, names=["gateway.example"])[
        "page's password"
    ]
    assert finding.grade is Grade.WARN
    assert "127.0.0.1" in finding.remedy


def test_a_credential_is_checked_as_the_service(tmp_path):
    file = tmp_path / "${CREDENTIALS_DIRECTORY}" / "web-password"
    assert "--service" in found(port=free_port(), password_file=file)["page's password"].remedy


def installed(tmp_path, *options):
    # The folder of this installation is none that a service can see; it is not what is looked at.
    arguments = ["install-service", "--config", str(tmp_path / "agent.yaml"), "--dry-run", *options]
    done = CliRunner().invoke(root, arguments)
    assert done.exit_code == 0, done.output
    return done


def test_the_service_hands_the_pages_password_over_and_refuses_a_file_it_cannot_read(
    tmp_path, tiny_bundle
):
    (tmp_path / "secret").write_text("long enough\n")
    path = page_config(tmp_path, tiny_bundle, [(4, 440)], web={"password_file": "secret"})
    done = installed(tmp_path)
    assert f"LoadCredential=web-password:{tmp_path}/web-password" in done.output
    assert f"LoadCredential=mqtt-password:{tmp_path}/mqtt-password" in done.output
    assert "${CREDENTIALS_DIRECTORY}/web-password" in done.output
    path.write_text(path.read_text().replace("secret", "${CREDENTIALS_DIRECTORY}/web-password"))
    assert "shall read no password file" not in installed(tmp_path).output

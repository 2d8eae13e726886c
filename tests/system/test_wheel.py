"""A built wheel has everything: installed away from the checkout, auscult works."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest
from support.bundles import build_bundle, tone, write
from support.nspawn import wait_for

ROOT = Path(__file__).parents[2]
# Where files of the checkout lie in the wheel, other than where they are.
_MOVED = {"configs/": "trainer/configs/", "systemd/": "agent/doctor/units/"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "-w", folder, ROOT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode and "hatchling" in done.stderr:
        pytest.skip("hatchling is not installed: make test does it")
    assert done.returncode == 0, done.stderr
    (made,) = folder.glob("auscult-*.whl")
    return made


def tracked() -> list[str]:
    listed = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "agent", "trainer", "export", "plant", "configs", "systemd"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return [name for name in listed.stdout.split() if (ROOT / name).is_file()]


def test_every_file_of_the_packages_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = set()
    for name in tracked():
        top = name.partition("/")[0] + "/"
        expected.add(_MOVED.get(top, top) + name.removeprefix(top))
    assert len(expected) > 300
    assert not expected - names
    # And nothing beside them: no test, no note, no remains of a build.
    rest = {name for name in names - expected if ".dist-info/" not in name}
    assert not rest


def test_its_metadata_name_the_extras_and_the_command(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (n for n in archive.namelist() if n.endswith("dist-info/METADATA"))
        (entries,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        text, commands = archive.read(metadata).decode(), archive.read(entries).decode()
    for extra in ("train", "web", "sign", "plant", "ray", "sparkplug"):
        assert f"Provides-Extra: {extra}\n" in text
    needed = [line for line in text.splitlines() if line.startswith("Requires-Dist:")]
    assert not any("torch" in line and "extra ==" not in line for line in needed)
    assert "auscult = agent.cli:main" in commands


@pytest.fixture(scope="module")
def place(wheel, tmp_path_factory):
    """A fresh virtual environment with the wheel, and this one's other packages; an empty folder."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    (site,) = (folder / "venv/lib").glob("python*/site-packages")
    # Lines of a .pth are searched last, and the .pth files in there (this checkout) are not read.
    others = [one for one in sys.path if one.endswith("-packages")]
    (site / "others.pth").write_text("\n".join(others) + "\n")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel],
        check=True,
    )  # fmt: skip
    (folder / "work").mkdir()
    return folder


def auscult(place: Path, *words: object, seconds: float = 120, **env: str) -> str:
    done = subprocess.run(
        [place / "venv/bin/auscult", *map(str, words)], cwd=place / "work", timeout=seconds,
        capture_output=True, text=True, check=False,
        env={**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, **env},
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_it_is_the_wheel_that_is_tried(place):
    told = subprocess.run(
        [place / "venv/bin/python", "-c", "import agent, trainer, export, plant; print(agent.__file__, trainer.__file__, export.__file__, plant.__file__)"],
        cwd=place / "work", capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert told.count(str(place)) == 4
    assert str(ROOT) not in told


@pytest.mark.slow
def test_presets_units_and_completion_are_there(place):
    assert "auscult_scratch" in auscult(place, "presets")
    (place / "work/agent.yaml").write_text("machines: [{name: pump}]\n")
    unit = auscult(place, "install-service", "--config", "agent.yaml", "--dry-run")
    assert f"ExecStart={place}/venv/bin/auscult run" in unit
    assert "_auscult_completion" in auscult(place, _AUSCULT_COMPLETE="bash_source")


@pytest.mark.slow
def test_it_scores_and_runs_with_its_page(place):
    bundle = build_bundle(place / "b" / "tiny")
    write(place / "work/1.wav", tone(5, seed=1))
    assert "1.wav" in auscult(place, "score", "--bundle", bundle, "1.wav")
    config = place / "work/run.yaml"
    config.write_text(
        f"machines:\n- {{name: pump, bundle: {bundle}, source: {{kind: replay, paths: [1.wav], loop: true}}}}\n"
        "web: {enabled: true, port: 0}\nstate_dir: state\n"
    )
    log = place / "work/log"
    with log.open("wb") as file:
        running = subprocess.Popen(
            [place / "venv/bin/auscult", "run", "--config", config],
            cwd=place / "work", stdout=file, stderr=file,
        )  # fmt: skip
    try:
        url = wait_for(lambda: _page(log.read_text()), 60)
        for part in ("", "static/app.js", "static/style.css"):
            with urllib.request.urlopen(f"{url}{part}", timeout=10) as answer:
                assert answer.status == 200
                assert answer.read()
    finally:
        running.terminate()
        running.wait(30)


def _page(log: str) -> str | None:
    return next((word.rstrip(".,") for word in log.split() if word.startswith("http://127.")), None)


@pytest.mark.slow
def test_the_demo_ends_with_its_report(place):
    auscult(place, "demo", "--seconds", "60", seconds=580)
    assert (place / "work/auscult-demo/report.html").stat().st_size > 10_000

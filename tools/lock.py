"""Chooses versions anew and writes constraints.txt and the hashed requirements (`make lock`).

Each requirements file holds what the one before lacks, with the digests of every file of that
version: those of the agent on a device, of training, of a plant, of PyTorch with what it brings
along (another build of it may come from elsewhere), of development, and of building.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
HERE = ROOT / "packaging"
# Newest releases that still run on Python 3.10 (JetPack 6), and a PyTorch known to export well.
PINS = ("torch==2.13.0", "onnxruntime==1.23.2", "numpy==2.2.6")
EXTRAS = {
    "agent": ("web", "sign", "notify"),
    "train": ("train",),
    "plant": ("plant", "ray", "sparkplug"),
    "dev": ("dev",),
    "fuzz": ("fuzz",),
    "release": ("release",),
}
# What builds auscult itself, and packages that come as source.
BUILD = ("hatchling", "editables", "setuptools", "wheel")
_TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)==")
_CONSTRAINTS = (
    "# Exact versions of everything auscult installs, for Python 3.10 to 3.13. Written by `make "
    "lock`; do not edit.\n"
)
_HASHED = "# With digests (pip install --require-hashes). Written by `make lock`; do not edit.\n"


def compiled(source: str, *options: str, constraints: str) -> str:
    """What uv chooses, as text."""
    with tempfile.TemporaryDirectory() as scratch:
        pins, out = Path(scratch, "pins.txt"), Path(scratch, "out.txt")
        pins.write_text(constraints)
        if source != "pyproject.toml":
            Path(scratch, "in.txt").write_text(source)
            source = str(Path(scratch, "in.txt"))
        subprocess.run(  # noqa: S603 - our own words
            [
                sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--universal",
                "--python-version", "3.10", "--fork-strategy", "fewest", "--no-header",
                "--no-annotate", "--no-emit-index-url", "--no-emit-find-links",
                "-c", str(pins), source, "-o", str(out), *options,
            ],
            check=True, cwd=ROOT,
        )  # fmt: skip
        return out.read_text()


def entries(text: str) -> dict[str, str]:
    """A requirements file's entries by their first line without digests, in order."""
    found, name = {}, ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            name = line.removesuffix(" \\")
            found[name] = line + "\n"
        elif name:
            found[name] += line + "\n"
    return found


def main() -> None:
    """Choose, and write."""
    file = ROOT / "constraints.txt"
    # With --keep the versions stay as they are, and what is new is added.
    keep = "--keep" in sys.argv
    chosen = compiled(
        "pyproject.toml",
        "--all-extras",
        *([] if keep else ["--upgrade"]),
        constraints=file.read_text() if keep else "\n".join(PINS),
    )
    versions = _CONSTRAINTS + chosen
    file.write_text(versions)
    known: set[str] = set()
    torch = ""
    for name, extras in EXTRAS.items():
        options = [word for extra in extras for word in ("--extra", extra)]
        text = compiled("pyproject.toml", "--generate-hashes", *options, constraints=versions)
        own = ""
        for entry, lines in entries(text).items():
            if entry in known:
                continue
            known.add(entry)
            if _TORCH.match(entry):
                torch += lines
            else:
                own += lines
        write(name, own)
    write("torch", torch)
    build = compiled("\n".join(BUILD), "--generate-hashes", constraints=versions)
    write("build", build)


def write(name: str, text: str) -> None:
    """One file of requirements."""
    path = HERE / f"requirements-{name}.txt"
    path.write_text(_HASHED + text)


if __name__ == "__main__":
    main()

"""`auscult keygen`: a pair of keys to sign bundles with."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Make keys to sign bundles with.")
@click.argument("private", metavar="KEY", type=click.Path(path_type=Path))
def keygen(private: Path) -> None:
    """Write an Ed25519 private key to KEY and its public half to KEY.pub.

    Keep KEY on the workstation: `auscult export --sign KEY` signs with it. Copy KEY.pub to the
    devices and name it in their `bundles.public_key`: they then open no other bundles.
    """
    from agent.bundle.sign import make_keys
    from agent.core.program import next_command

    public = private.with_name(private.name + ".pub")
    name = make_keys(private, public)
    click.echo(f"wrote {private} (keep it secret) and {public}, fingerprint {name}")
    click.echo(next_command("export", "RUN", "--out", "NAME.bundle", "--sign", private))

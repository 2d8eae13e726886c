"""`auscult plant user`: who may use the plant's page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from plant.store.users import Users

_PLANT = click.argument("plant", metavar="PLANT.yaml", type=click.Path(path_type=Path))


@click.group(short_help="Add, list and remove users of the plant's page.")
def user() -> None:
    """Add, list and remove users of the plant's page."""


@user.command(short_help="Add a user, or change role and password.")
@_PLANT
@click.argument("name")
@click.option(
    "--role", type=click.Choice(["viewer", "operator", "admin"]), default="viewer",
    show_default=True,
    help="viewer: sees all; operator: acknowledges, shelves, answers; admin: users too.",
)  # fmt: skip
@click.option(
    "--password-file", type=click.Path(path_type=Path),
    help="Take the password from this file's first line.  [default: it is asked for]",
)  # fmt: skip
@click.option("--no-password", is_flag=True, help="They come by the reverse proxy alone.")
def add(plant: Path, name: str, role: str, password_file: Path | None, no_password: bool) -> None:
    """Add a user NAME, or change their role and password; ends their sessions."""
    from typing import cast

    from agent.core.secret_file import read_secret
    from plant.watch.config import Role

    users = _users(plant)  # before anything is asked
    if password_file is not None:
        password = read_secret(
            password_file, "the password file", remedy="Put the password on its first line."
        )
    elif no_password:
        password = None
    else:
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    new = users.put(name, cast(Role, role), password)
    click.echo(f"{name} is {'added' if new else 'changed'}: {role}")


@user.command(name="list", short_help="List users.")
@_PLANT
def list_users(plant: Path) -> None:
    """List users, their roles, and whether they have a password here."""
    for one in _users(plant).all():
        kind = "password" if one["password"] else "by the proxy alone"
        click.echo(f"{one['name']}  {one['role']}  {kind}")


@user.command(short_help="Remove a user.")
@_PLANT
@click.argument("name")
def remove(plant: Path, name: str) -> None:
    """Remove user NAME, and end their sessions."""
    from plant.store.users import UserError

    if not _users(plant).remove(name):
        raise UserError("there is no such user", where=name)
    click.echo(f"{name} is removed")


def _users(plant: Path) -> Users:
    from plant.store.users import Users
    from plant.watch.file import load_serve
    from plant.watch.service import open_database

    return Users(open_database(load_serve(plant)))

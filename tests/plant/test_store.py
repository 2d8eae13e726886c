"""The plant's database: its schema, its migrations, its users."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from plant.store import users as users_module
from plant.store.database import Database, StoreError
from plant.store.migrate import migrate
from plant.store.tables import METADATA, SESSIONS, USERS
from plant.store.users import UserError, Users


def test_the_migrations_make_the_tables(database):
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_several_instances_may_migrate_at_once(tmp_path):
    url = f"sqlite:///{tmp_path / 'plant.db'}"
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(migrate, Database(url)) for _ in range(4)]

    assert [one.exception() for one in done] == [None] * 4


def test_a_database_of_a_newer_version_is_refused(database):
    with database.writing() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(StoreError, match=r"newer auscult.*Update auscult"):
        migrate(database)


@pytest.mark.parametrize(
    ("url", "said"),
    [("mysql://x@y/z", "sqlite:///plant.db or postgresql"), ("nonsense", "no address"),
     ("sqlite:////nowhere/at/all/plant.db", "folder of the database is not there")],
)  # fmt: skip
def test_an_address_that_will_not_do_is_refused_with_a_remedy(url, said):
    with pytest.raises(StoreError, match=said):
        Database(url)


def test_a_wrong_address_is_told_without_its_password():
    with pytest.raises(StoreError) as told:
        Database("mysql://anna:secret-word@y/z")

    assert "secret-word" not in str(told.value)


@pytest.fixture
def users(database, monkeypatch):
    monkeypatch.setattr(users_module, "_N", 2**4)  # a guess in no time
    return Users(database)


def test_a_user_logs_in_and_out(users, database):
    assert users.put("anna", "operator", "right-password")
    assert users.check("anna", "wrong-password") is None
    assert users.check("nobody", "right-password") is None
    anna = users.check("anna", "right-password")
    assert anna is not None
    assert anna.may("viewer")
    assert anna.may("operator")
    assert not anna.may("admin")

    token = users.open("anna", 1)
    assert users.session(token) == anna
    with database.reading() as connection:
        kept = connection.execute(sa.select(SESSIONS.c.digest)).scalar_one()
        password = connection.execute(sa.select(USERS.c.password)).scalar_one()
    assert token not in kept
    assert "right-password" not in password
    users.close(token)
    assert users.session(token) is None


def test_another_role_password_or_none_ends_the_sessions(users):
    users.put("anna", "admin", "right-password")
    for change in (
        lambda: users.put("anna", "viewer", None),
        lambda: users.put("anna", "admin", "other-password"),
        lambda: users.remove("anna"),
    ):
        token = users.open("anna", 1)
        change()
        assert users.session(token) is None


def test_a_session_is_over_after_its_hours(users, database):
    users.put("anna", "viewer", "right-password")
    token = users.open("anna", 1)
    with database.writing() as connection:
        past = datetime.now(timezone.utc) - timedelta(seconds=1)
        connection.execute(sa.update(SESSIONS).values(expires=past))

    assert users.session(token) is None


def test_who_has_no_password_cannot_log_in_with_an_empty_one(users):
    users.put("by-proxy", "viewer", None)

    assert users.check("by-proxy", "") is None
    assert users.find("by-proxy").role == "viewer"


@pytest.mark.parametrize(("name", "password"), [("a b", "long-enough"), ("a/b", "long-enough"),
                                                ("", "long-enough"), ("anna", "short")])  # fmt: skip
def test_a_name_or_password_that_will_not_do_is_refused(users, name, password):
    with pytest.raises(UserError):
        users.put(name, "viewer", password)


def test_the_hash_of_a_password_costs_what_it_should():
    kind, n, r, p, *_ = users_module.hashed("a password").split("$")

    assert (kind, int(n), int(r), int(p)) == ("scrypt", 2**16, 8, 1)

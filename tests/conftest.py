"""One pair of real engines for the whole test run; a database and a broker number for every xdist worker.

The engines start only if a test needs them: one that has a database, or asks for the fixture `engines`.
Set DATABASE_URL and REDIS_URL to run the tests on engines of your own instead.
"""

import contextlib
import fcntl
import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import hypothesis
import pytest
from django.conf import settings
from django.test import TransactionTestCase
from pytest_django import DjangoDbBlocker

from project.local import engines as embedded
from tests.emptying import delete_all_rows

# The same examples at every run, so that a failure in CI is a failure here. New ones: --hypothesis-profile=default.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

GARBAGE_OBJECTS = 50_000
"""How many objects more there are when Python looks for garbage; by default 700, which is a tenth of the time."""
ID_CHARACTERS_MAX = 200
ENGINES = pytest.StashKey[contextlib.ExitStack]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the engines for xdist workers, which inherit their addresses through the environment.

    Which tests they will run is not known yet.
    """
    if config.getoption("numprocesses", None) and not config.option.collectonly:
        _start_engines(config)
    _point_settings_at_the_engines()
    pytest.MonkeyPatch().setattr(TransactionTestCase, "_fixture_teardown", delete_all_rows)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name a long value by its beginning: megabytes would go from process to process with each test."""
    if isinstance(val, str | bytes) and len(val) > ID_CHARACTERS_MAX:
        return f"{argname} {val[:20]!a} of {len(val)}"
    return None


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start the engines for a run in one process, which knows by now whether a test needs them."""
    # Ten thousand tests and all that is imported stay until the end: the collector need not look through them.
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 10, 10)
    needs_engines = any(wants_database(item) or "engines" in fixtures(item) for item in session.items)
    if needs_engines and not session.config.option.collectonly:
        _start_engines(session.config)
        _point_settings_at_the_engines()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what was started."""
    if ENGINES in config.stash:
        config.stash[ENGINES].close()


@pytest.fixture(scope="session")
def engines() -> None:
    """PostgreSQL and Valkey run: for tests that talk to them without a database of Django's."""


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[TextIO]:
    """The file that names a database that is migrated, locked: whoever finds none there migrates, others wait."""
    own = tmp_path_factory.getbasetemp()
    with (own if worker_id == "master" else own.parent).joinpath("migrated").open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        yield file


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings: None, migrated: TextIO) -> None:
    """Copy a database that another process of this run has migrated: to migrate takes ten seconds."""
    from django.db import connection

    connection.settings_dict["TEST"]["TEMPLATE"] = migrated.read() or None


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker, migrated: TextIO) -> Iterator[None]:
    """Have databases that others make copied from one that is migrated: those of a test, and other processes'."""
    from django.db import connection

    template = f"{connection.settings_dict['NAME']}_template"
    with django_db_blocker.unblock():
        connection.close()
        with connection._nodb_cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {template}")
            cursor.execute(f"CREATE DATABASE {template} TEMPLATE {connection.settings_dict['NAME']}")
    connection.settings_dict["TEST"]["TEMPLATE"] = template
    migrated.truncate(0)
    migrated.write(template)
    migrated.flush()
    fcntl.flock(migrated, fcntl.LOCK_UN)
    yield
    connection.settings_dict["TEST"]["TEMPLATE"] = None
    fcntl.flock(migrated, fcntl.LOCK_EX)
    migrated.seek(0)
    if migrated.read() == template:
        migrated.truncate(0)
    with django_db_blocker.unblock(), connection._nodb_cursor() as cursor:
        cursor.execute(f"DROP DATABASE {template}")


@pytest.fixture(scope="class")
def shared_rows(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[DjangoDbBlocker]:
    """A transaction around those of the tests of a class, for rows that all of them read. Unblock to make them.

    A test outside a class has it for itself.
    """
    from django.db import transaction

    around = transaction.atomic()
    with django_db_blocker.unblock():
        around.__enter__()
    yield django_db_blocker
    with django_db_blocker.unblock():
        transaction.set_rollback(True)
        around.__exit__(None, None, None)


@pytest.fixture(autouse=True)
def always_listening(request: pytest.FixtureRequest) -> None:
    """In tests somebody has always listened, unless a test deletes this span: otherwise all that is due is unknown."""
    if wants_database(request.node):
        request.getfixturevalue("_django_db_helper")
        from tests.factories import ListeningSpanFactory

        ListeningSpanFactory()


def wants_database(item: pytest.Item) -> bool:
    """Whether a test has Django's database, by its mark or by a fixture."""
    asked_for = {"db", "transactional_db", "django_db_reset_sequences"} & fixtures(item)
    return bool(asked_for) or item.get_closest_marker("django_db") is not None


def fixtures(item: pytest.Item) -> set[str]:
    """The fixtures that a test asks for, also through others."""
    return set(getattr(item, "fixturenames", ()))


def _start_engines(config: pytest.Config) -> None:
    if ":1/" not in os.environ["DATABASE_URL"]:
        return  # They run already, or are the user's own.
    stack = config.stash[ENGINES] = contextlib.ExitStack()
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="watchclock-tests-")))
    directory.chmod(0o711)  # The engines run as another user if we are root.
    postgres = embedded.prepare_postgres(directory / "postgres", port=embedded.free_port(), durable=False)
    valkey = embedded.prepare_valkey(directory / "valkey", port=embedded.free_port())
    stack.enter_context(embedded.running(postgres, directory / "postgres.log"))
    stack.enter_context(embedded.running(valkey, directory / "valkey.log"))
    os.environ["DATABASE_URL"] = postgres.url
    os.environ["REDIS_URL"] = valkey.url


def _point_settings_at_the_engines() -> None:
    # The settings were loaded before this file: pytest-django does so first of all.
    from environ import Env

    settings.DATABASES["default"].update(Env.db_url_config(os.environ["DATABASE_URL"]))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")
    redis_url = os.environ["REDIS_URL"].rpartition("/")[0] + f"/{int(worker) + 1}"
    settings.REDIS_URL = settings.CELERY_BROKER_URL = redis_url

"""One pair of real engines for the whole test run; a database and a broker number for every xdist worker.

Set DATABASE_URL and REDIS_URL to run the tests on engines of your own instead.
"""

import contextlib
import os
import tempfile
from pathlib import Path

import hypothesis
import pytest
from django.conf import settings

from project.local import engines

# The same examples at every run, so that a failure in CI is a failure here. New ones: --hypothesis-profile=default.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile("repeatable")

ENGINES = pytest.StashKey[contextlib.ExitStack]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Start the engines in the controlling process; xdist workers inherit their addresses through the environment."""
    if not hasattr(config, "workerinput") and ":1/" in os.environ["DATABASE_URL"] and not config.option.collectonly:
        stack = config.stash[ENGINES] = contextlib.ExitStack()
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="watchclock-tests-")))
        directory.chmod(0o711)  # The engines run as another user if we are root.
        postgres = engines.prepare_postgres(directory / "postgres", port=engines.free_port(), durable=False)
        valkey = engines.prepare_valkey(directory / "valkey", port=engines.free_port())
        stack.enter_context(engines.running(postgres, directory / "postgres.log"))
        stack.enter_context(engines.running(valkey, directory / "valkey.log"))
        os.environ["DATABASE_URL"] = postgres.url
        os.environ["REDIS_URL"] = valkey.url
    _point_settings_at_the_engines()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what `pytest_configure` started."""
    if ENGINES in config.stash:
        config.stash[ENGINES].close()


@pytest.fixture(autouse=True)
def always_listening(request: pytest.FixtureRequest, _django_db_helper: None) -> None:
    """In tests somebody has always listened, unless a test deletes this span: otherwise all that is due is unknown."""
    wants_database = {"db", "transactional_db", "django_db_reset_sequences"} & set(request.fixturenames)
    if wants_database or request.node.get_closest_marker("django_db"):
        from tests.factories import ListeningSpanFactory

        ListeningSpanFactory()


def _point_settings_at_the_engines() -> None:
    # The settings were loaded before this file: pytest-django does so first of all.
    from environ import Env

    settings.DATABASES["default"].update(Env.db_url_config(os.environ["DATABASE_URL"]))
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw-1").removeprefix("gw")
    redis_url = os.environ["REDIS_URL"].rpartition("/")[0] + f"/{int(worker) + 1}"
    settings.REDIS_URL = settings.CELERY_BROKER_URL = redis_url

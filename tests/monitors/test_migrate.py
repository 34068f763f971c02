"""`manage.py migrate`: what Watchclock adds to Django's command."""

import os
import signal

import pytest
from django.core.management.base import CommandError

from monitors.management.commands.migrate import Command


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_asks_it_to_stop_gets_that_between_two_migrations(number):
    command = Command()
    vars(command)["verbosity"] = 0
    handler = signal.getsignal(number)
    with command.signals_noted():
        command.migration_progress_callback("apply_start")
        os.kill(os.getpid(), number)
        with pytest.raises(CommandError, match="Stopped between two migrations") as caught:
            command.migration_progress_callback("apply_success")
        assert caught.value.returncode == 130
    assert signal.getsignal(number) is handler


@pytest.fixture
def python_handles_interrupts():
    """Who starts the tests in the background has them ignore SIGINT."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.mark.usefixtures("python_handles_interrupts")
def test_who_asks_twice_does_not_wait():
    command = Command()
    with command.signals_noted():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)

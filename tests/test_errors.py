"""The errors of an app have one root, so that who calls it can catch all of them and nothing else."""

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import accounts
import checkins
import clocktasks
import dashboard
import incidents
import monitors
from accounts.exceptions import MembershipError
from checkins.exceptions import CheckInsError
from clocktasks.exceptions import ClockError
from dashboard.exceptions import DashboardError
from incidents.exceptions import IncidentsError
from monitors.exceptions import MonitorsError


def errors_of(app: ModuleType) -> set[type[Exception]]:
    names = [module.name for module in pkgutil.walk_packages(app.__path__, f"{app.__name__}.")]
    modules = [importlib.import_module(name) for name in names if ".migrations" not in name and ".process" not in name]
    return {
        one
        for module in modules
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, Exception) and one.__module__ == module.__name__
    }


@pytest.mark.parametrize(
    ("app", "root"),
    [
        (accounts, MembershipError),
        (checkins, CheckInsError),
        (clocktasks, ClockError),
        (dashboard, DashboardError),
        (incidents, IncidentsError),
        (monitors, MonitorsError),
    ],
    ids=lambda one: one.__name__,
)
def test_the_errors_of_an_app_have_one_root(app: ModuleType, root: type[Exception]):
    errors = errors_of(app)
    assert root in errors
    assert [one for one in errors if not issubclass(one, root)] == []

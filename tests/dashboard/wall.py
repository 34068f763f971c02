"""The wall clock of the admin's pages, as tests set it."""

import pkgutil
from collections.abc import Callable
from datetime import datetime
from importlib import import_module

import pytest

from dashboard import admin


def set_clock(monkeypatch: pytest.MonkeyPatch, utcnow: Callable[[], datetime]) -> None:
    """Let every page of the admin read this clock."""
    for module in pkgutil.iter_modules(admin.__path__, "dashboard.admin."):
        if hasattr(import_module(module.name), "utcnow"):
            monkeypatch.setattr(f"{module.name}.utcnow", utcnow)

"""Pages that open without an account, in a process that has rendered nothing yet."""

import pytest

from dashboard.live.marks import read_mark
from dashboard.shared import views
from dashboard.shared.kept import Shelf


class Clock:
    """The monotonic clock of the process."""

    now = 0.0


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(views, "SHELF", Shelf(read_mark, lambda: clock.now))
    return clock

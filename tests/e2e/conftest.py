"""What a failing end-to-end test shows besides its assertion: what all its processes wrote last."""

from collections.abc import Generator

import pytest

from tests.e2e.watchclock import Watchclock


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Watchclock):
                report.sections.append(("what the processes wrote last", value.tails()))
    return report

"""Nobody has tried to log in yet."""

import pytest

from lib.valkey import valkey


@pytest.fixture(autouse=True)
def _nobody_has_tried(engines):
    for key in valkey().scan_iter("watchclock:cache:*"):
        valkey().delete(key)

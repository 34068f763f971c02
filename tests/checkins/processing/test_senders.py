"""Senders with a key or an address that was replaced: what counts is the reception of each request."""

from datetime import timedelta

import pytest

from audit.entries import Actor, Source
from checkins.models import CheckIn
from checkins.processing.batch import take
from checkins.processing.finding import Hints
from checkins.processing.senders import find_sender
from checkins.protocols.request import IngestRequest
from monitors.addresses import end_former_addresses, replace_address, replace_key
from tests.factories import NOW, IngestKeyFactory, MonitorFactory

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
ANNA = Actor(name="anna", source=Source.PAGE, at=NOW)


def ping(path, after=timedelta()):
    return IngestRequest(method="GET", path=path, query="", headers={}, body=b"", body_bytes=0, received_at=NOW + after)


@pytest.fixture
def monitor():
    return MonitorFactory(slug="nightly")


def statuses(*requests, hints=None):
    return [answer.status for answer in take(requests, now=NOW, hints=hints)]


def test_a_replaced_key_is_accepted_until_its_end_even_from_the_spool(monitor):
    old = IngestKeyFactory(project=monitor.project)
    new = replace_key(old, NOW + HOUR, by=ANNA)
    by_old, by_new = (f"/ping/{key.public_key}/nightly" for key in (old, new))
    # Stored in one batch, long after the end: a spool that is drained.
    requests = [ping(by_old, HOUR - SECOND), ping(by_old, HOUR), ping(by_new, HOUR)]
    assert statuses(*requests) == [200, 404, 200]
    assert CheckIn.objects.count() == 2
    assert find_sender(ping(by_old), Hints()) is not None
    assert find_sender(ping(by_old, HOUR), Hints()) is None


def test_a_replaced_address_is_accepted_until_its_end(monitor):
    hints = Hints()
    old = f"/ping/{monitor.guid}"
    assert statuses(ping(old), hints=hints) == [200]
    replace_address(monitor.pk, NOW + HOUR, by=ANNA)
    monitor.refresh_from_db()
    requests = [ping(f"/ping/{monitor.guid}", HOUR), ping(old, HOUR - SECOND), ping(old, HOUR)]
    assert statuses(*requests, hints=hints) == [200, 200, 404]
    assert CheckIn.objects.filter(monitor_environment__monitor=monitor).count() == 3


def test_a_process_that_remembers_an_address_asks_again_after_some_minutes(monitor):
    hints = Hints()
    old = f"/ping/{monitor.guid}"
    assert statuses(ping(old), hints=hints) == [200]
    replace_address(monitor.pk, NOW + HOUR, by=ANNA)
    end_former_addresses(monitor.pk, by=ANNA)
    assert statuses(ping(old, Hints.SENDERS_FOR - SECOND), hints=hints) == [200]
    assert statuses(ping(old, Hints.SENDERS_FOR), hints=hints) == [404]

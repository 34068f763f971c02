"""Keys and ping addresses: create, revoke, replace with an overlap; each with its entry in the audit log."""

from datetime import timedelta

import pytest

from audit.entries import Actor, Source
from audit.models import AuditEntry
from monitors.addresses import (
    FORMER_ADDRESSES_MAX,
    KEYS_MAX,
    OVERLAP_MAX,
    RotationError,
    create_key,
    end_former_addresses,
    note_keys_shown,
    replace_address,
    replace_key,
    revoke_key,
)
from monitors.models import IngestKey
from tests import factories
from tests.factories import NOW

pytestmark = pytest.mark.django_db
ANNA = Actor(name="anna", source=Source.PAGE, at=NOW, id=7)
HOUR = timedelta(hours=1)


@pytest.fixture
def key():
    return factories.IngestKeyFactory(label="jobs")


def recorded():
    return list(AuditEntry.objects.order_by("id").values_list("kind", "object_id", "action", "changes"))


def test_a_replaced_key_works_beside_its_successor_until_the_instant(key):
    new = replace_key(key, NOW + HOUR, by=ANNA)
    assert (new.label, new.ends_at, new.public_key == key.public_key) == ("jobs", None, False)
    assert list(IngestKey.objects.in_force(NOW)) == [new, key]
    assert list(IngestKey.objects.in_force(NOW + HOUR)) == [new]
    ends = (NOW + HOUR).isoformat()
    assert recorded() == [
        ("ingest key", new.pk, "created", {"label": [None, "jobs"]}),
        ("ingest key", key.pk, "replaced", {"ends_at": [None, ends], "replaced_by": [None, str(new)]}),
    ]


@pytest.mark.parametrize("after", [timedelta(), -HOUR, OVERLAP_MAX + HOUR])
def test_an_overlap_ends_within_its_bound(key, after):
    with pytest.raises(RotationError, match="within the next 90 days"):
        replace_key(key, NOW + after, by=ANNA)
    assert recorded() == []


def test_a_key_that_works_no_more_is_not_replaced(key):
    assert revoke_key(key, by=ANNA)
    assert not revoke_key(key, by=ANNA)
    with pytest.raises(RotationError, match="works no more"):
        replace_key(key, NOW + HOUR, by=ANNA)
    assert [row[2] for row in recorded()] == ["revoked"]


def test_a_project_has_a_bounded_number_of_keys(key):
    IngestKey.objects.bulk_create(
        factories.IngestKeyFactory.build_batch(KEYS_MAX - 1, project=key.project), ignore_conflicts=False
    )
    with pytest.raises(RotationError, match=f"{KEYS_MAX} keys"):
        create_key(key.project_id, "one more", by=ANNA)
    revoke_key(key, by=ANNA)
    assert create_key(key.project_id, "one more", by=ANNA).is_active


def test_a_look_at_a_key_is_recorded_each_time_or_once_a_day(key):
    for hours, once, count in ((0, True, 1), (23, True, 1), (23, False, 2), (48, True, 3)):
        note_keys_shown([key], by=Actor("anna", Source.PAGE, NOW + hours * HOUR, 7), once=once)
        assert AuditEntry.objects.filter(action="shown", object_id=key.pk).count() == count
    note_keys_shown([key], by=Actor("berta", Source.PAGE, NOW + 48 * HOUR, 8))
    assert AuditEntry.objects.filter(actor_name="berta").count() == 1


def test_a_replaced_address_is_never_written_into_the_log():
    monitor = factories.MonitorFactory()
    old = monitor.guid
    replace_address(monitor.pk, NOW + HOUR, by=ANNA)
    monitor.refresh_from_db()
    assert monitor.guid != old
    assert list(monitor.former_addresses.values_list("guid", "ends_at")) == [(old, NOW + HOUR)]
    ends = {"ping_address": "changed", "former_address_ends_at": [None, (NOW + HOUR).isoformat()]}
    assert recorded() == [("monitor", monitor.pk, "address replaced", ends)]
    assert end_former_addresses(monitor.pk, by=ANNA) == 1
    assert monitor.former_addresses.get().ends_at == NOW


def test_only_the_newest_former_addresses_are_stored():
    monitor = factories.MonitorFactory()
    for _ in range(FORMER_ADDRESSES_MAX + 2):
        replace_address(monitor.pk, NOW + HOUR, by=ANNA)
    assert monitor.former_addresses.count() == FORMER_ADDRESSES_MAX

"""Writing the audit log: in the transaction of the change, a set at a time."""

import pytest
from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from audit.entries import CHANGED, NAME_CHARACTERS_MAX, Actor, Entry, Source
from audit.models import AuditEntry
from audit.recording import record
from tests.factories import NOW

ANNA = Actor(name="anna", source=Source.ADMIN, at=NOW, id=3)


def muted(number):
    return Entry("monitor", number, f"job-{number}", "muted", 5, {"is_muted": (False, True)})


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("actor", "kept"),
    [
        (ANNA, (3, "anna", "admin")),
        (Actor("deploy", Source.API, NOW, 4), (4, "deploy", "api")),
        (Actor("bootstrap", Source.COMMAND, NOW), (None, "bootstrap", "command")),
        (Actor("Watchclock", Source.SYSTEM, NOW), (None, "Watchclock", "system")),
    ],
)
def test_an_entry_says_who_what_where_and_when(actor, kept):
    record([muted(7)], by=actor)
    row = AuditEntry.objects.get()
    assert (row.actor_id, row.actor_name, row.source) == kept
    assert (row.at, row.project_id, row.kind, row.object_id, row.object_name) == (NOW, 5, "monitor", 7, "job-7")
    assert (row.action, row.changes) == ("muted", {"is_muted": [False, True]})
    assert str(row) == f"job-7 muted by {kept[1]}"


@pytest.mark.django_db(transaction=True)
def test_without_a_transaction_nothing_is_recorded_and_the_caller_is_told():
    for by in (ANNA, None):
        with pytest.raises(TransactionManagementError, match="in the transaction of the change"):
            record([muted(7)], by=by)
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_entry_goes_with_a_change_that_is_rolled_back():
    with transaction.atomic():
        record([muted(7)], by=ANNA)
        transaction.set_rollback(True)
    assert not AuditEntry.objects.exists()


@pytest.mark.django_db
def test_thousands_of_entries_are_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        record([muted(number) for number in range(5_000)], by=ANNA)
    assert AuditEntry.objects.count() == 5_000
    assert AuditEntry.objects.latest("id").object_name == "job-4999"


@pytest.mark.django_db
def test_without_an_actor_the_entries_are_not_even_read(django_assert_num_queries):
    entries = iter([muted(7)])
    with django_assert_num_queries(0):
        record(entries, by=None)
    assert len(list(entries)) == 1


@pytest.mark.django_db
def test_an_edit_that_changed_nothing_is_left_out(django_assert_num_queries):
    with django_assert_num_queries(0):
        record([Entry("monitor", 7, "backup", CHANGED, 5)], by=ANNA)
    record([Entry("monitor", 7, "backup", "deleted", 5)], by=ANNA)
    assert AuditEntry.objects.count() == 1


@pytest.mark.django_db
def test_what_postgresql_cannot_store_is_replaced_and_what_is_too_long_is_cut():
    changes = {"name": ("\x00", ["\ud800", "x" * 9_000])}
    record([Entry("k" * 99, None, "n\x00" * 999, "a" * 99, None, changes)], by=ANNA)
    row = AuditEntry.objects.get()
    assert row.object_name.startswith("n\ufffdn")
    assert len(row.object_name) == NAME_CHARACTERS_MAX
    assert row.changes["name"][0] == "\ufffd"


@pytest.mark.django_db
def test_a_secret_is_nowhere_in_the_table():
    secret = "c0ffee5ec2e7"
    record(
        [Entry("ingest key", 7, "jobs", CHANGED, 5, {"public_key": (secret, secret[::-1])}, {"public_key"})], by=ANNA
    )
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_entry::text FROM audit_entry")
        [(row,)] = cursor.fetchall()
    assert secret not in row
    assert secret[::-1] not in row
    assert '"public_key": "changed"' in row.replace('""', '"')

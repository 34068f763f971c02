"""After a change of keys all secrets are encrypted with the first one, and nothing is lost."""

import pytest

from audit.models import AuditEntry
from incidents import rekeying
from incidents.models import Channel
from incidents.rekeying import rekey
from incidents.secrets import is_current, seal, unseal
from tests.factories import NOW, ChannelFactory
from tests.incidents.test_secrets import new_key

pytestmark = pytest.mark.django_db
SECRETS = {"url": "https://hooks.example/secret-part"}


def sealed_channel(**columns):
    channel = ChannelFactory(kind="slack", **columns)
    channel.sealed = seal(SECRETS, guid=channel.guid)
    channel.save()
    return channel


@pytest.fixture
def channels(settings):
    """Three channels with secrets of the old key, one removed, and one channel without secrets."""
    settings.SECRETS_KEYS = [new_key()]
    found = [sealed_channel(), sealed_channel(), sealed_channel(removed_at=NOW, is_enabled=False)]
    ChannelFactory(kind="email")
    settings.SECRETS_KEYS = [new_key(), *settings.SECRETS_KEYS]
    return found


def test_all_secrets_get_the_first_key_and_stay_readable_without_the_old_one(channels, settings, monkeypatch):
    monkeypatch.setattr(rekeying, "BATCH", 2)
    assert rekey(now=NOW).old_count == 3
    settings.SECRETS_KEYS = settings.SECRETS_KEYS[:1]
    for channel in channels:
        channel.refresh_from_db()
        assert is_current(channel.sealed)
        assert unseal(channel.sealed, guid=channel.guid) == SECRETS


def test_a_second_run_changes_nothing(channels):
    rekey(now=NOW)
    before = list(Channel.objects.order_by("id").values_list("sealed"))
    again = rekey(now=NOW)
    assert (again.old_count, again.current_count) == (0, 3)
    assert list(Channel.objects.order_by("id").values_list("sealed")) == before


def test_counting_changes_nothing(channels):
    before = list(Channel.objects.order_by("id").values_list("sealed"))
    assert rekey(now=NOW, is_dry=True).old_count == 3
    assert list(Channel.objects.order_by("id").values_list("sealed")) == before


def test_what_no_key_can_read_is_named_and_stays(channels):
    broken = ChannelFactory(kind="slack", name="broken", sealed="gAAAAA")
    assert rekey(now=NOW).unreadable == [f"{broken.project.slug}/broken"]
    broken.refresh_from_db()
    assert broken.sealed == "gAAAAA"


def test_the_audit_log_has_each_channel_and_no_secret(channels):
    rekey(now=NOW)
    entries = AuditEntry.objects.filter(action="encrypted anew")
    assert entries.count() == 3
    assert not any(entry.changes for entry in entries)

"""`manage.py notify`: a test through an e-mail channel is a mail like any other, and the state of all channels."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command

from incidents.management.commands.notify import find_channel
from incidents.notifications.mail_settings import CONSOLE
from tests.factories import NOW, ChannelFactory, MessageFactory, ProjectFactory

pytestmark = pytest.mark.django_db


def test_a_test_of_an_e_mail_channel_goes_to_each_address_as_text_and_page(mailoutbox, capsys):
    ChannelFactory(kind="email", name="ops", values={"to": "ada@example.com, bob@example.com"})
    call_command("notify", "test", "ops")

    assert [mail.to for mail in mailoutbox] == [["ada@example.com"], ["bob@example.com"]]
    assert {mail.subject for mail in mailoutbox} == {"[Watchclock] Test: alerts reach you"}
    assert all(mail.alternatives for mail in mailoutbox)
    assert "The mail server has it." in capsys.readouterr().out


def test_without_a_mail_server_no_test_is_accepted(settings, capsys):
    settings.EMAIL_BACKEND = CONSOLE
    ChannelFactory(kind="email", name="ops", values={"to": "ada@example.com"})
    with pytest.raises(SystemExit):
        call_command("notify", "test", "ops")
    said = capsys.readouterr()
    assert (said.out, "ada@example.com: not accepted. EMAIL_URL names no mail server" in said.err) == ("", True)


@pytest.mark.parametrize("name", ["day/night", "shop/day/night", "shop/plain", "plain"])
def test_a_channel_is_found_by_its_name_even_with_a_slash(name):
    project = ProjectFactory(slug="shop")
    for own in ("day/night", "plain"):
        ChannelFactory(project=project, name=own)
    assert name.endswith(find_channel(name).name)


@pytest.fixture
def channels():
    """One that works, one that fails with messages that wait, and one that is disabled."""
    works = ChannelFactory(project__slug="shop", name="room", kind="slack", delivered_at=NOW)
    fails = ChannelFactory(
        project=works.project, name="pager", kind="pagerduty", failure_count=7, last_error="401 who are you",
        failing_since=NOW - timedelta(minutes=9), open_since=NOW - timedelta(minutes=8), probe_at=NOW,
    )  # fmt: skip
    ChannelFactory(project=None, name="clock", kind="webhook", is_enabled=False)
    for status in ("waiting", "waiting", "failed", "sent"):
        MessageFactory(channel=fails, recipient=str(fails.guid), status=status)


def test_the_status_names_each_channel_with_what_waits_and_why_it_fails(channels, capsys):
    call_command("notify", "status", "--json")
    found = {one["channel"]: one for one in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found["pager"] == {
        "project": "shop", "channel": "pager", "kind": "pagerduty", "enabled": True, "waiting": 2, "failed": 1,
        "delivered_at": None, "failing_since": "2026-01-05T09:51:00+00:00", "probe_at": "2026-01-05T10:00:00+00:00",
        "error": "401 who are you",
    }  # fmt: skip
    assert found["room"]["delivered_at"] == "2026-01-05T10:00:00+00:00"
    assert (found["clock"]["project"], found["clock"]["enabled"]) == (None, False)


def test_the_status_is_a_line_for_each_channel(channels, capsys):
    call_command("notify", "status")
    assert capsys.readouterr().out.splitlines() == [
        "shop/pager (pagerduty); 2 waiting, 1 failed; nothing delivered yet; "
        "failing since 2026-01-05T09:51:00+00:00: 401 who are you",
        "shop/room (slack); 0 waiting, 0 failed; last delivered 2026-01-05T10:00:00+00:00",
        "clock (webhook), disabled; 0 waiting, 0 failed; nothing delivered yet",
    ]

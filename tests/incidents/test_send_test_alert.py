"""`manage.py send_test_alert` shows what the mail server really says."""

import pytest
from django.core.management import CommandError, call_command

from tests.mailserver import running_mail_server

ONE, TWO = "ops@example.com", "night@example.com"


@pytest.fixture(autouse=True)
def mail_settings(settings):
    settings.ALERT_EMAIL_TO = [ONE, TWO]
    settings.EMAIL_BACKEND = "incidents.notifications.channels.email.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_TIMEOUT = "127.0.0.1", 1


def test_it_sends_to_everybody_and_says_who_has_taken_it(settings, capsys):
    with running_mail_server() as server:
        settings.EMAIL_PORT = server.port
        call_command("send_test_alert")

    assert [to for to, _, _ in server.taken] == [ONE, TWO]
    assert server.taken[0][1]["Subject"] == "[Watchclock] Test: alerts reach you"
    assert capsys.readouterr().out == "".join(f"{to}: 127.0.0.1:{server.port} accepted it.\n" for to in (ONE, TWO))


def test_a_refusal_is_shown_as_the_server_said_it_and_the_others_are_still_sent(settings, capsys):
    with running_mail_server(lambda word, to: "550 no such user" if (word, to) == ("RCPT", ONE) else None) as server:
        settings.EMAIL_PORT = server.port
        with pytest.raises(SystemExit) as stopped:
            call_command("send_test_alert")

    assert stopped.value.code == 1
    assert (
        f"{ONE}: not sent. 127.0.0.1:{server.port}: the mail server answers 550 no such user" in capsys.readouterr().err
    )
    assert [to for to, _, _ in server.taken] == [TWO]


def test_other_addresses_can_be_tried(settings):
    settings.ALERT_EMAIL_TO = []
    with running_mail_server() as server:
        settings.EMAIL_PORT = server.port
        call_command("send_test_alert", "me@example.com")

    assert [to for to, _, _ in server.taken] == ["me@example.com"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ALERT_EMAIL_TO": []}, "ALERT_EMAIL_TO is empty"),
        ({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "EMAIL_URL names no mail server"),
    ],
)
def test_where_nobody_is_told_it_says_why(settings, changes, reason):
    for name, value in changes.items():
        setattr(settings, name, value)

    with pytest.raises(CommandError, match=reason):
        call_command("send_test_alert")

"""Mails as they arrive: in conversations, answered by no machine, readable without HTML, and always the same."""

import os
from html.parser import HTMLParser
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from incidents.models import Message
from incidents.notifications.alert import Event
from incidents.notifications.channels.email import Postman
from incidents.notifications.channels.mail import compose
from incidents.notifications.channels.mail_text import content, subject, text
from incidents.notifications.outbox import message_key
from tests.factories import ChannelFactory
from tests.incidents.notifications.channels.alerts import ABOUT_ONE, GUID, STORM, alert, incident, many
from tests.mailserver import running_mail_server

FILES = Path(__file__).parent / "snapshots"
EVENTS = (Event.OPENED, Event.RESOLVED, Event.DIGEST)
ADA = "ada@example.com"
KEY = UUID("5707a3b1-0d6f-5c57-9d0e-000000000001")


def mail_of(shown, **columns):
    body = msgspec.json.encode(shown).decode()
    about = {"kind": "opened", "incident_id": 1} | columns
    return compose(Message(recipient=ADA, idempotency_key=KEY, body=body, **about))


def about(event, **changes):
    return mail_of(alert(event, **changes))


def page_of(mail):
    [page] = mail.alternatives
    return page.content


def shown(event):
    return alert(event, incidents=many(Event.OPENED, 3)) if event is Event.DIGEST else alert(event)


def snapshots():
    for event in EVENTS:
        mail = mail_of(shown(event))
        yield f"mail-{event.value}.txt", f"Subject: {mail.subject}\n\n{mail.body}"
        yield f"mail-{event.value}.html", page_of(mail) + "\n"


# --- reviewed


@pytest.mark.parametrize(("name", "said"), list(snapshots()), ids=[name for name, _ in snapshots()])
def test_mails_are_those_that_were_reviewed(name, said):
    """`WRITE_SNAPSHOTS=1 make test ARGS=tests/incidents/notifications/channels/test_mail.py` writes the files anew."""
    if os.environ.get("WRITE_SNAPSHOTS"):
        (FILES / name).write_text(said)
    assert said == (FILES / name).read_text()


# --- conversations


@pytest.mark.parametrize("event", [event for event in ABOUT_ONE if event not in {Event.OPENED, Event.PASSED}])
def test_later_mails_answer_the_first_under_its_subject(event):
    first, later = about(Event.OPENED), about(event)
    opened = f"<{message_key(GUID, 'opened', ADA)}@"

    assert later.subject == f"Re: {first.subject}"
    assert later.extra_headers["References"].startswith(opened)
    assert later.extra_headers["In-Reply-To"] == later.extra_headers["References"]
    assert "References" not in first.extra_headers


def test_the_end_of_a_storm_answers_its_beginning():
    first = mail_of(alert(Event.DIGEST), kind="digest", incident_id=None, storm_id=7)
    last = mail_of(alert(Event.STORM_OVER), kind="storm_over", incident_id=None, storm_id=7)

    assert last.subject == f"Re: {first.subject}"
    assert last.extra_headers["References"].startswith(f"<{message_key(STORM, 'digest', ADA)}@")


@pytest.mark.parametrize("event", list(Event))
def test_the_first_line_and_the_preview_say_what_has_happened(event):
    parts = content(alert(event))

    assert text(parts).splitlines()[0] == alert(event).title
    assert parts.preheader.startswith(("Failing. ", "Recovered. ", "Acknowledged. ", "Note. "))
    assert parts.preheader in page_of(about(event)).replace("&#x27;", "'")


@pytest.mark.parametrize(
    ("sender", "public", "expected"),
    [
        ("Watchclock <clock@mail.example.com>", "https://w.example", "mail.example.com"),
        ("watchclock@localhost", "https://w.example:8443/x", "w.example"),
        ("watchclock@localhost", "", "localhost"),
    ],
)
def test_ids_end_in_a_real_domain(settings, sender, public, expected):
    settings.DEFAULT_FROM_EMAIL, settings.PUBLIC_URL = sender, public
    headers = about(Event.OPENED).extra_headers

    assert headers["Message-ID"] == f"<{KEY}@{expected}>"
    assert headers["List-Id"] == f"<ops.watchclock.{expected}>"


# --- on the wire


@pytest.mark.parametrize("event", list(Event))
def test_it_arrives_as_text_and_page_with_its_headers(settings, event):
    settings.EMAIL_BACKEND = "incidents.notifications.channels.email.EmailBackend"
    settings.EMAIL_HOST, settings.DEFAULT_FROM_EMAIL = "127.0.0.1", "Watchclock <clock@example.com>"
    url = f"https://w.example/u/{'x' * 300}"
    body = msgspec.json.encode(alert(event, unsubscribe_url=url)).decode()
    with running_mail_server() as server:
        settings.EMAIL_PORT = server.port
        postman = Postman()
        postman.send(Message(recipient=ADA, idempotency_key=KEY, incident_id=1, body=body))
        postman.close()

    [mail] = server.mails_to(ADA)
    assert mail["To"] == ADA
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["X-Auto-Response-Suppress"] == "All"
    assert mail["List-Unsubscribe"].strip() == f"<{url}>", "folded before it, and never within"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["Message-ID"] == f"<{KEY}@example.com>"
    plain, page = mail.iter_parts()  # type: ignore[attr-defined]
    assert (plain.get_content_type(), page.get_content_type()) == ("text/plain", "text/html")
    assert alert(event).title in plain.get_content()
    assert alert(event).title in page.get_content()


def test_one_click_is_offered_over_https_only():
    headers = about(Event.OPENED, unsubscribe_url="http://w.example/u/x").extra_headers
    assert not {"List-Unsubscribe", "List-Unsubscribe-Post"} & set(headers)


def test_what_an_older_version_has_written_is_sent_as_it_is():
    message = Message(recipient=ADA, idempotency_key=KEY, incident_id=1, subject="[Watchclock] Missed: x", body="x: y.")
    mail = compose(message)

    assert (mail.subject, mail.body, mail.alternatives) == ("[Watchclock] Missed: x", "x: y.", [])


def test_a_test_says_so_in_the_zone_of_its_channel():
    message = Message(
        recipient=ADA, kind="test", idempotency_key=KEY, subject="Test: alerts reach you", body="No job has failed.",
        channel=ChannelFactory.build(kind="email"),
    )  # fmt: skip
    assert compose(message).subject == "[Watchclock] Test: alerts reach you"


# --- the page


class Loads(HTMLParser):
    """Notes what a page would load from elsewhere, and what could act."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if tag in {"img", "script", "link", "iframe", "object", "form"} or "src" in names:
            self.found.append(tag)
        self.found += [name for name in names if name.startswith("on")]
        if "url(" in (names.get("style") or ""):
            self.found.append("style")


def test_a_page_loads_nothing_and_names_and_logs_are_no_markup():
    nasty = '<img src=x onerror="alert(1)"><script>alert(2)</script>'
    hurt = incident(monitor=nasty, environment=nasty, project=nasty, tags=(nasty,), log_tail=nasty, reason=nasty)
    for event in (Event.OPENED, Event.DIGEST):
        incidents = (hurt,) if event is Event.OPENED else (hurt, hurt)
        parser = Loads()
        parser.feed(page_of(about(event, title=nasty, reason=nasty, incidents=incidents)))
        assert parser.found == []


def test_a_link_that_is_no_web_address_is_none():
    hurt = incident(url="javascript:alert(1)", acknowledge_url="javascript:alert(1)")
    for incidents in ((hurt,), (hurt, hurt)):
        assert "javascript" not in page_of(about(Event.DIGEST, incidents=incidents, url="javascript:alert(1)"))


def test_a_digest_of_fifty_long_incidents_is_not_cut_by_mail_services():
    shown = alert(Event.DIGEST, incidents=many(Event.OPENED, 50, monitor="x" * 900, reason="y" * 9_000))
    mail = mail_of(shown)

    assert len(mail.message().as_bytes()) < 102_000
    assert "and 10 more" in mail.body
    assert subject(shown) == mail.subject


def test_a_digest_of_one_says_which_job_it_is_and_leads_to_its_page():
    one = many(Event.OPENED, 1, url="https://w.example/i/7/")
    mail = mail_of(alert(Event.DIGEST, incidents=one, omitted=0, url="https://w.example/"))

    assert "Job 0 (production)" in mail.body
    assert "Open incident: https://w.example/i/7/" in mail.body

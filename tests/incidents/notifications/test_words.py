"""Alerts in the language of their channel: every text has a translation with the same values in it."""

import ast
import re
from datetime import timedelta

import pytest
from django.utils import translation

from dashboard.texts import said
from incidents.models import Message
from incidents.notifications import configuring, delivery
from incidents.notifications.alert import Event
from incidents.notifications.alerts import write_alerts
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.mail_text import content, subject, text
from incidents.notifications.letters import Story, recovery, why
from incidents.notifications.words import GERMAN, LANGUAGES, length, minutes, say
from project.local.children import BASE_DIR
from tests.factories import (
    NOW,
    ChannelFactory,
    IncidentFactory,
    MessageFactory,
    NotificationFactory,
    OccurrenceFactory,
    RouteFactory,
)
from tests.incidents.notifications.channels.alerts import NOW as AT
from tests.incidents.notifications.channels.alerts import alert, target
from tests.incidents.notifications.channels.vendors import VENDORS

FIELD = re.compile(r"\{\w+\}")
FOLDER = BASE_DIR / "incidents" / "notifications"
SAYS = [
    *(FOLDER / name for name in ("letters.py", "storm_words.py", "fallback_text.py")),
    *(FOLDER / "channels" / name for name in ("wording.py", "mail_text.py")),
    BASE_DIR / "dashboard" / "report" / "words.py",
]
PAGES = [BASE_DIR / "dashboard" / "templates" / name / "page.html" for name in ("acknowledge", "unsubscribe")]
SAY_TAG = re.compile(r"{% say(?:_count)? .*?%}")


def texts_with_values():
    """All texts of these modules that have the names of values in them: they are said."""
    for path in SAYS:
        tree = ast.parse(path.read_text())
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            said = node.value if isinstance(node, ast.Constant) and id(node) not in inside | docs else None
            if isinstance(said, str) and FIELD.search(said):
                yield said
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "say":
                english = node.args[1]
                if isinstance(english, ast.Constant):
                    yield english.value


def texts_of_pages():
    """What the pages behind links say: every text of their tags."""
    for path in PAGES:
        for tag in SAY_TAG.findall(path.read_text()):
            yield from re.findall(r' "([^"]*)"', tag)


def test_nothing_on_the_pages_behind_links_is_said_in_one_language_only():
    for path in PAGES:
        body = re.sub(r"{%.*?%}|{{.*?}}|<[^>]*>", " ", path.read_text().partition("<body>")[2])
        assert re.findall(r"[A-Za-z]{2,}", body) == []


@pytest.mark.parametrize("kind", [kind.label for kind in Message.Kind])
def test_what_a_channel_has_not_told_has_a_name_in_every_language(kind):
    assert kind in GERMAN


@pytest.mark.parametrize("kind", configuring.KINDS.values())
def test_a_kind_of_channel_has_the_same_name_in_messages_and_on_pages(kind):
    with translation.override("de"):
        assert say("de", kind) == said(kind)


@pytest.mark.parametrize("english", sorted({*texts_with_values(), *texts_of_pages()}))
def test_every_text_has_a_translation(english):
    assert english in GERMAN


@pytest.mark.parametrize("english", GERMAN)
def test_a_translation_has_the_values_of_its_text(english):
    assert sorted(FIELD.findall(GERMAN[english])) == sorted(FIELD.findall(english))


def test_braces_in_a_value_are_no_fields():
    assert say("de", "{job} is failing", job="{0} {x}") == "{0} {x} schlägt fehl"


def test_an_unknown_language_is_english():
    assert minutes("xx", 2) == "two minutes"
    assert length("xx", timedelta(hours=2)) == "2 hours"


def test_a_length_of_time_leaves_the_language_of_its_thread_as_it_was():
    assert length("de", timedelta(hours=1, minutes=40)) == "1 Stunde und 40 Minuten"
    assert length("en", timedelta(hours=1, minutes=40)) == "1 hour and 40 minutes"


def test_a_reason_in_german():
    explanation = {
        "kind": "missed", "crontab": "30 2 * * *", "timezone": "Europe/Berlin", "margin_minutes": 10,
        "expected_at": "2026-01-05T01:30:00Z", "deadline_at": "2026-01-05T01:40:00Z",
        "last_ok_at": "2026-01-04T01:31:02Z", "last_ok_duration_ms": 41_000,
        "tick": "2026-01-05T01:40:00Z", "failure_streak": 3, "failure_threshold": 3,
        "failure_streak_started_at": "2026-01-03T01:30:00Z",
    }  # fmt: skip
    assert why(explanation, "de") == (
        "Erwartet um 02:30 Europe/Berlin (jeden Tag um 02:30), zehn Minuten Spielraum, keine Meldung bis 02:40. "
        "3 Fehler in Folge, seit 2026-01-03 02:30 (Schwelle 3). "
        "Letzter Erfolg gestern 02:31, Dauer 41 Sekunden."
    )


def test_days_after_a_preposition_in_german():
    ended = Story("job", "production", "UTC", AT, {}, recovered_at=AT + timedelta(days=3, hours=2), language="de")
    assert ", nach 3 Tagen und 2 Stunden." in recovery(ended)


def test_a_mail_in_german():
    shown = alert(Event.OPENED, language="de", unsubscribe_url="https://w.example/u/x")
    said = text(content(shown))

    assert subject(shown) == "[Watchclock] nightly-backup (production) schlägt fehl"
    for part in ("Projekt: ops", "Fehler seit: ", " der Ausgabe:", "Bestätigen: ", "Diese Mails abbestellen: "):
        assert part in said


@pytest.mark.parametrize("event", list(Event))
@pytest.mark.parametrize("kind", VENDORS)
def test_every_channel_can_say_it_in_german(kind, event):
    where = target(kind, VENDORS[kind]().values("https://receiver.example"))
    for request in SENDERS[kind].requests(alert(event, language="de"), where, "", now=AT):
        assert "recovered. " not in request.body.decode()
        assert "Open incident" not in request.body.decode()


@pytest.mark.django_db
def test_the_language_is_that_of_the_channel(mailoutbox):
    incident = OccurrenceFactory(incident=IncidentFactory()).incident
    project = incident.monitor_environment.monitor.project
    channels = [
        ChannelFactory(project=project, kind="email", values={"to": f"{language}@example.com"}, language=language)
        for language in LANGUAGES
    ]
    RouteFactory(project=project, to=channels)
    NotificationFactory(incident=incident)
    delivery.deliver(utcnow=lambda: NOW)

    said = {mail.to[0]: mail.subject for mail in mailoutbox}
    assert said["en@example.com"].endswith(" is failing")
    assert said["de@example.com"].endswith(" schlägt fehl")


@pytest.mark.django_db
def test_a_mail_to_an_address_of_the_installation_is_english():
    message = MessageFactory(incident=OccurrenceFactory().incident, attempt_count=1, claimed_until=NOW)
    write_alerts([message])
    assert Message.objects.get().subject.endswith(" is failing")

"""Why something failed: the same sentence in messages, timelines, lists and pages, for every kind of failure."""

from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.urls import reverse

from checkins.processing.apply import receive
from clocktasks.dispatch import advance_ledger
from incidents.models import Incident, Message
from incidents.notifications import delivery
from incidents.notifications.letters import why
from incidents.notifications.stored import stored_alert
from incidents.notifications.words import LANGUAGES
from incidents.thresholds import FailureKind
from tests.clocktasks.shards import after, make_monitor_in, tick_by_tick
from tests.dashboard.pages.conftest import words
from tests.factories import NOW, ChannelFactory, MonitorEnvironmentFactory, RouteFactory
from tests.messages import make_message

pytestmark = pytest.mark.django_db

STORIES: dict[str, tuple[dict[str, Any], list[tuple[str, int, float]], float, str]] = {
    "missed": ({"crontab": "*/10 * * * *", "failure_threshold": 2}, [("ok", 1, 1)], 21, "(every 10 minutes)"),
    "timeout": ({"max_runtime": 5}, [("in_progress", 1, 1)], 6, "not finished by 10:06"),
    "error": ({}, [("in_progress", 1, 0), ("error", 1, 3)], 3, "3 minutes after its start"),
    "slow": ({"limits": "longer than 10m: failure"}, [("in_progress", 1, 0), ("ok", 1, 11)], 11, "after 11 minutes"),
    "fast": ({"limits": "shorter than 1m: failure"}, [("in_progress", 1, 0), ("ok", 1, 0.5)], 1, "after 30 seconds"),
    "overlap": (
        {"limits": "overlap: failure"},
        [("in_progress", 1, 0), ("in_progress", 2, 2), ("ok", 1, 5), ("ok", 2, 8)],
        8,
        "before an earlier run had ended",
    ),
}
"""A monitor, what its runs report (status, run, minute), until when the clock goes on, and a part of the sentence."""


@pytest.fixture(params=[kind.value for kind in FailureKind])
def failed(request):
    """An incident that real decisions opened, told in English and in German; with a part of its sentence."""
    columns, reports, until, part = STORIES[request.param]
    advance_ledger(NOW, now=NOW)
    monitor = make_monitor_in(5, **({"crontab": "0 12 * * *", "max_runtime": 60} | columns))
    MonitorEnvironmentFactory(monitor=monitor)
    to = [
        ChannelFactory(project=monitor.project, kind="email", values={"to": f"{one}@example.com"}, language=one)
        for one in LANGUAGES
    ]
    RouteFactory(project=monitor.project, to=to)
    for status, run, minute in reports:
        receive([make_message(status, monitor=monitor, run=run, at=after(minute))], now=after(minute))
    tick_by_tick(after(1), after(until))
    delivery.deliver(utcnow=lambda: after(until) + timedelta(minutes=1))
    return Incident.objects.get(), part


@pytest.mark.parametrize("language", LANGUAGES)
def test_messages_pages_and_timelines_say_it_with_one_sentence(failed, admin_client, language):
    incident, part = failed
    explanations = list(incident.occurrences.order_by("number").values_list("explanation", flat=True))
    newest = why(explanations[-1], language)
    assert language != "en" or part in newest

    [message] = Message.objects.filter(recipient=f"{language}@example.com")
    alert = stored_alert(message)
    assert alert is not None
    assert alert.reason == newest
    [body] = [one.body for one in mail.outbox if one.to == [message.recipient]]
    assert newest in str(body)

    monitor = incident.monitor_environment.monitor
    for address in (
        reverse("now"),
        reverse("incident", args=[incident.pk]),
        reverse("issue", args=[incident.issue_id]),
        reverse("issues", args=[monitor.project.slug]),
        reverse("monitor", args=[monitor.project.slug, monitor.slug]),
    ):
        assert newest in words(admin_client.get(address, headers={"accept-language": language})), address
    for name in ("incident", "issue"):
        pk = incident.pk if name == "incident" else incident.issue_id
        page = admin_client.get(reverse(name, args=[pk]), headers={"accept-language": language})
        shown = [entry.text for entry in page.context["timeline"] if entry.what == "failed"]
        assert sorted(shown) == sorted(why(one, language) for one in explanations)


def test_the_admin_says_it_with_the_same_sentence(failed, admin_client):
    incident, _ = failed
    occurrence = incident.occurrences.order_by("-number")[0]
    for address in (
        reverse("admin:incidents_incident_change", args=[incident.pk]),
        reverse("admin:incidents_issue_change", args=[incident.issue_id]),
        reverse("admin:incidents_occurrence_change", args=[occurrence.pk]),
        reverse("admin:incidents_occurrence_changelist"),
    ):
        assert why(occurrence.explanation) in words(admin_client.get(address)), address

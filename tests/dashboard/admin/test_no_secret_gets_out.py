"""A known secret of each kind of channel is searched for in all that people and programs can read."""

import contextlib
import ipaddress
import logging
from datetime import timedelta

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection

from health.queries import read_rows
from incidents.models import Channel, Message
from incidents.notifications import delivery
from incidents.notifications.alert import Event
from incidents.notifications.alerts import target_of
from incidents.notifications.channels import SENDERS
from incidents.notifications.configuring import fields_of, stored_secrets
from incidents.notifications.fallback import report_failures
from tests.factories import (
    NOW,
    ChannelFactory,
    MonitorEnvironmentFactory,
    NotificationFactory,
    OccurrenceFactory,
    RouteFactory,
)
from tests.incidents.notifications.channels.alerts import alert
from tests.incidents.notifications.channels.receiver import reply, running_receiver
from tests.incidents.notifications.channels.vendors import VENDORS

pytestmark = pytest.mark.django_db
TOKEN = "Kept0Between0Us0And0Them0123456789abcdef"
MORE = {"pagerduty": "signing_secret", "opsgenie": "callback_token", "slack_bot": "signing_secret"}
PAGES = ("channel", "message", "notification", "incident", "route")


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.NOTIFY_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    settings.ALERT_EMAIL_TO = ["ops@example.com"]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


def refusing(status):
    """An answer that repeats all that came."""

    def answer(received):
        headers = " ".join(received.headers.values())
        return reply(status, f"{received.path} {headers} ".encode() + received.body)

    return answer


@pytest.fixture
def receiver():
    with running_receiver(refusing(500)) as receiver:
        yield receiver


def settings_of(kind, url):
    """Settings in which each secret is or ends in a known text, and these texts."""
    if kind == "apprise":
        return {"url": f"gotify://{url.removeprefix('http://')}/{TOKEN}"}, {TOKEN}
    values = VENDORS[kind]().values(url)
    if kind in MORE:
        values[MORE[kind]] = TOKEN
    secrets = {field.name for field in fields_of(kind) if field.is_secret} & values.keys()
    if "url" in secrets:
        joint = "&k=" if "?" in values["url"] else "/"
        values["url"] = f"{values['url']}{joint}{TOKEN}"
    return values, {TOKEN if name == "url" else values[name] for name in secrets}


def all_rows():
    """Every row of every table, but for the encrypted column."""
    with connection.cursor() as cursor:
        for model in apps.get_models():
            cursor.execute(f"SELECT (to_jsonb(r) - 'sealed')::text FROM {model._meta.db_table} AS r")  # noqa: S608
            yield from (text for (text,) in cursor.fetchall())


def pages(client, channel):
    paths = [f"/admin/incidents/{name}/" for name in PAGES] + ["/admin/audit/auditentry/"]
    paths += [f"/admin/incidents/channel/{channel.pk}/{page}/" for page in ("change", "history")]
    paths += [f"/admin/incidents/message/{id_}/change/" for id_ in Message.objects.values_list("pk", flat=True)]
    for path in paths:
        response = client.get(path)
        assert response.status_code == 200, path
        yield response.content.decode()


def printed(capsys, *command):
    with contextlib.suppress(SystemExit):
        call_command(*command)
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.parametrize("kind", SENDERS)
def test_it_is_in_no_log_no_row_no_page_no_command_and_no_repr(kind, receiver, admin_client, capsys, caplog):
    values, secrets = settings_of(kind, receiver.url)
    environment = MonitorEnvironmentFactory(status="error")
    project = environment.monitor.project
    with caplog.at_level(logging.DEBUG):
        sent = {f"setting_{name}": text for name, text in values.items()}
        common = {"project": project.pk, "timezone": "UTC", "language": "en", "is_enabled": "on", "folds": "on"}
        added = admin_client.post(f"/admin/incidents/channel/add/?kind={kind}", {**common, "name": "room", **sent})
        assert added.status_code == 302, added.context["adminform"].form.errors
        channel = Channel.objects.get(name="room")
        admin_client.post(f"/admin/incidents/channel/{channel.pk}/change/", {**common, "name": "renamed", **sent})
        channel.refresh_from_db()
        assert channel.name == "renamed"
        assert secrets <= {part for text in stored_secrets(channel).values() for part in (text, text[-len(TOKEN) :])}
        RouteFactory(project=project, to=[channel])
        NotificationFactory(incident=OccurrenceFactory(incident__monitor_environment=environment).incident)
        for hours, status in ((0, 500), (2, 403), (4, 400)):
            receiver.answer = refusing(status)
            now = NOW + timedelta(hours=hours)
            delivery.deliver(utcnow=lambda now=now: now)  # type: ignore[misc]  # bound here
        Channel.objects.filter(open_since=None).update(open_since=NOW, probe_at=NOW)
        report_failures(now=NOW + timedelta(hours=7))
        texts = [printed(capsys, "notify", *rest) for rest in (("status",), ("status", "--json"), ("test", "renamed"))]
        texts.append(printed(capsys, "dumpdata", "incidents", "audit"))
    assert receiver.received, "it was asked"
    assert Message.objects.filter(kind="fallback").exists()
    target = target_of(channel)
    requests = SENDERS[kind].requests(alert(Event.OPENED), target, "", now=NOW)
    texts += [caplog.text, repr(channel), str(channel), repr(target), repr(requests)]
    texts += [repr(read_rows(NOW + timedelta(hours=7))), *all_rows(), *pages(admin_client, channel)]
    for secret in secrets:
        assert [text[:300] for text in texts if secret in text] == []


def test_the_search_would_find_one(receiver):
    ChannelFactory(values={"url": TOKEN})
    assert any(TOKEN in text for text in all_rows())

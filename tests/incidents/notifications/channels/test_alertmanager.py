"""Alerts to Debian's Alertmanager, which tells our receiver what it makes of them."""

import json
import shutil
import socket
import subprocess
import urllib.request
from contextlib import contextmanager
from datetime import timedelta

import msgspec
import pytest

from incidents.notifications.alert import Event
from incidents.notifications.channels import alertmanager
from incidents.notifications.channels.base import SendResultKind
from lib.wallclock import utcnow
from tests.incidents.notifications.channels.alerts import NOW, alert, exchange, incident, target
from tests.incidents.notifications.channels.receiver import running_receiver
from tests.waiting import wait_until

PROGRAM = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
CONFIGURATION = """
route: {receiver: ours, group_by: [alertname, incident], group_wait: 100ms, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: ours, webhook_configs: [{url: "%s", send_resolved: true}]}]
"""


real = pytest.mark.skipif(PROGRAM is None, reason="Alertmanager is not installed (Debian: prometheus-alertmanager)")
"""For tests with Debian's program."""


@contextmanager
def running_alertmanager(receiver_url, directory):
    """Run one that tells a receiver, until the end of the block; gives its address."""
    assert PROGRAM is not None
    (directory / "alertmanager.yml").write_text(CONFIGURATION % receiver_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = {
        "config.file": directory / "alertmanager.yml",
        "storage.path": directory / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "cluster.listen-address": "",
    }
    running = subprocess.Popen(
        [PROGRAM, *(f"--{name}={option}" for name, option in options.items())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _is_ready(url), "Alertmanager is ready")
        yield url
    finally:
        running.terminate()
        running.wait(10)


def _is_ready(url):
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def content(event, now=NOW, **changes):
    channel = target("alertmanager", {"url": "http://alertmanager.example:9093/"})
    [made] = alertmanager.requests(alert(event, **changes), channel, "", now=now)
    return made, msgspec.json.decode(made.body)[0]


def test_labels_stay_the_same_while_an_incident_changes():
    labels = [
        content(event)[1]["labels"] for event in (Event.OPENED, Event.REMINDER, Event.ACKNOWLEDGED, Event.RESOLVED)
    ]
    assert all(one == labels[0] for one in labels)
    assert set(labels[0]) == {"alertname", "project", "monitor", "environment", "incident"}


def test_labels_of_a_storm_stay_the_same_when_one_incident_is_left_of_it():
    labels = [content(event, incidents=(incident(event),))[1]["labels"] for event in (Event.DIGEST, Event.STORM_OVER)]
    assert labels[0] == labels[1]
    assert set(labels[0]) == {"alertname", "group"}


def test_an_alert_stays_open_longer_than_it_takes_to_tell_it_again():
    assert content(Event.OPENED)[1]["endsAt"] == "2026-11-28T03:15:05Z"
    assert timedelta(minutes=3) <= alertmanager.HOLD == 5 * alertmanager.REPEAT_EVERY


def test_the_end_is_that_of_the_incident():
    assert content(Event.RESOLVED, now=NOW + timedelta(hours=9))[1]["endsAt"] == "2026-11-28T03:51:00Z"


def test_the_address_may_end_in_a_slash():
    assert content(Event.OPENED)[0].url == "http://alertmanager.example:9093/api/v2/alerts"


@pytest.mark.long
@real
class TestTheRealOne:
    @pytest.fixture
    def receiver(self):
        with running_receiver() as receiver:
            yield receiver

    @pytest.fixture
    def url(self, receiver, tmp_path):
        with running_alertmanager(receiver.url, tmp_path) as url:
            yield url

    def tell(self, url, event, **changes):
        now = utcnow()
        facts = {"opened_at": now - timedelta(minutes=1)}
        if event is Event.RESOLVED:
            facts["resolved_at"] = now
        what = alert(event, at=now, incidents=(incident(event, **facts),), **changes)
        requests = alertmanager.requests(what, target("alertmanager", {"url": url}), "", now=now)
        return exchange(requests, alertmanager.classify)

    def alerts(self, url):
        with urllib.request.urlopen(f"{url}/api/v2/alerts", timeout=5) as answer:
            return json.load(answer)

    def notified(self, receiver):
        return [received.json["status"] for received in receiver.received]

    def test_an_incident_fires_once_however_often_it_is_told_and_is_resolved(self, receiver, url):
        for event in (Event.OPENED, Event.REMINDER, Event.ACKNOWLEDGED, Event.OPENED):
            assert self.tell(url, event).kind is SendResultKind.DELIVERED
        wait_until(lambda: self.notified(receiver), "it fires")
        [found] = self.alerts(url)
        assert found["labels"]["monitor"] == "nightly-backup"
        assert found["annotations"]["severity"] == "error"

        assert self.tell(url, Event.RESOLVED).kind is SendResultKind.DELIVERED
        wait_until(lambda: self.notified(receiver)[-1] == "resolved", "it is resolved")
        assert self.notified(receiver).count("resolved") == 1
        assert self.alerts(url) == []

    def test_hostile_names_are_taken(self, url):
        words = '\r\n\x00"}{<@everyone>\u202e' + "🌙" * 500
        now = utcnow()
        facts = {"project": words, "slug": words, "environment": words, "tags": (words,), "opened_at": now}
        what = alert(Event.OPENED, title=words, reason=words, incidents=(incident(Event.OPENED, **facts),))
        requests = alertmanager.requests(what, target("alertmanager", {"url": url}), "", now=now)
        assert exchange(requests, alertmanager.classify).kind is SendResultKind.DELIVERED
        assert len(self.alerts(url)) == 1

    def test_an_alert_that_it_does_not_take_is_the_messages_fault(self, url):
        [good] = alertmanager.requests(
            alert(Event.OPENED), target("alertmanager", {"url": url}), "", now=NOW - timedelta(days=1)
        )
        bad = msgspec.structs.replace(good, body=good.body.replace(b'"alertname"', b'"alert-name"'))
        assert exchange((bad,), alertmanager.classify).kind is SendResultKind.MESSAGE_REFUSED

"""Messages as people get them, reviewed: a change of a message is a change of its file.

`python -m tests.incidents.notifications.channels.test_snapshots` writes the files anew.
"""

import json
from pathlib import Path

import pytest

from incidents.notifications.alert import Event
from incidents.notifications.channels import SENDERS
from tests.incidents.notifications.channels.alerts import NOW, alert, many, target
from tests.incidents.notifications.channels.vendors import VENDORS

FILES = Path(__file__).parent / "snapshots"
EVENTS = (Event.OPENED, Event.REMINDER, Event.ACKNOWLEDGED, Event.RESOLVED, Event.DIGEST, Event.STORM_OVER)
KINDS = ("pagerduty", "slack", "slack_bot", "teams")
FIRST = {"slack_bot": "C024BE91L:1784900000.000100"}
"""What a service returned for the first message, which later ones change or follow."""


def bodies(kind):
    channel = target(kind, VENDORS[kind]().values("https://receiver.example"))
    return {event.value: [json.loads(request.body) for request in requests(kind, event, channel)] for event in EVENTS}


def requests(kind, event, channel):
    ref = "" if event in (Event.OPENED, Event.DIGEST) else FIRST.get(kind, "")
    return SENDERS[kind].requests(shown(event), channel, ref, now=NOW)


def shown(event):
    if event is Event.DIGEST:
        return alert(event, incidents=many(Event.OPENED, 3), acknowledge_url="https://w.example/a/storm")
    return alert(event, incidents=many(event, 3), omitted=0) if event is Event.STORM_OVER else alert(event)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_are_those_that_were_reviewed(kind):
    assert bodies(kind) == json.loads((FILES / f"{kind}.json").read_text())


if __name__ == "__main__":
    for kind in KINDS:
        (FILES / f"{kind}.json").write_text(json.dumps(bodies(kind), indent=2, ensure_ascii=False) + "\n")

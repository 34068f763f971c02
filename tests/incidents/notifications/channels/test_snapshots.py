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
EVENTS = (Event.OPENED, Event.RESOLVED, Event.DIGEST)
KINDS = ("pagerduty", "slack", "teams")


def bodies(kind):
    channel = target(kind, VENDORS[kind]().values("https://receiver.example"))
    return {
        event.value: [
            json.loads(request.body) for request in SENDERS[kind].requests(shown(event), channel, "", now=NOW)
        ]
        for event in EVENTS
    }


def shown(event):
    return alert(event, incidents=many(Event.OPENED, 3)) if event is Event.DIGEST else alert(event)


@pytest.mark.parametrize("kind", KINDS)
def test_messages_are_those_that_were_reviewed(kind):
    assert bodies(kind) == json.loads((FILES / f"{kind}.json").read_text())


if __name__ == "__main__":
    for kind in KINDS:
        (FILES / f"{kind}.json").write_text(json.dumps(bodies(kind), indent=2, ensure_ascii=False) + "\n")

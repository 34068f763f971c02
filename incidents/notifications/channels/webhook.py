"""A webhook of one's own, signed as Standard Webhooks 1.0.0 say (pure).

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from incidents.notifications.alert import Alert, Event, IncidentFacts
from incidents.notifications.channels import wording
from incidents.notifications.channels.base import (
    JSON,
    Answer,
    Capability,
    Field,
    Request,
    SendResult,
    Target,
    field_problems,
    hidden,
    outcome,
    value,
)
from lib.encoding import to_json
from lib.texts import Text

KIND = "webhook"
NAME = Text("Signed webhook")
BODY_BYTES_MAX = 20_000
LOG_LENGTH_MAX = 4_000
NAME_LENGTH_MAX = 200
TAGS_MAX = 20
PREFIX = "whsec_"
KEY_BYTES_MIN, KEY_BYTES_MAX = 24, 64
URL = Field(name="url", label=Text("Address"), kind="url", is_secret=True, help=Text("Receives a POST for each event."))
SECRET = Field(
    name="secret",
    label=Text("Signing key"),
    is_secret=True,
    is_sent=False,
    help=Text("whsec_ and 24 to 64 random bytes in base64. The receiver checks the signature with it."),
)
OLD_SECRET = Field(
    name="old_secret",
    label=Text("Former signing key"),
    is_secret=True,
    is_sent=False,
    is_required=False,
    help=Text("While a key is changed: each message also has a signature with this one."),
)
FIELDS: tuple[Field, ...] = (URL, SECRET, OLD_SECRET)
CAN = frozenset({Capability.DEDUP, Capability.ACKNOWLEDGE, Capability.PRIORITY})


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    found = field_problems(FIELDS, values)
    for field in (SECRET, OLD_SECRET):
        text = values.get(field.name, "").strip()
        if text and field.name not in found and _key(text) is None:
            found[field.name] = Text(
                "A signing key is %(prefix)s and %(least)s to %(most)s bytes in base64, as %(prefix)s"
                "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=.",
                prefix=PREFIX,
                least=KEY_BYTES_MIN,
                most=KEY_BYTES_MAX,
            )
    return found


def new_secret(random: bytes) -> str:
    """Return a signing key made of random bytes, 24 to 64 of them."""
    assert KEY_BYTES_MIN <= len(random) <= KEY_BYTES_MAX, len(random)
    return PREFIX + base64.b64encode(random).decode()


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return one signed request; the plain form has neither explanation nor log."""
    del ref
    body = _body(alert, is_plain=is_plain)
    key, timestamp = str(alert.key), int(now.timestamp())
    secrets = [secret for field in (SECRET, OLD_SECRET) if (secret := value(target, field))]
    headers = {
        "content-type": JSON,
        "webhook-id": key,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(sign(secret, key, timestamp, body) for secret in secrets),
        "idempotency-key": key,
    }
    url = value(target, URL)
    return (Request(method="POST", url=url, headers=headers, body=body, secrets=hidden(FIELDS, target)),)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the answer means: by its status alone. 410 means that the receiver is closed for good."""
    return outcome(request, answer)


def sign(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message; `timestamp` in Unix seconds. An invalid key signs with no bytes."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(_key(secret) or b"", content, "sha256")).decode()


def _key(secret: str) -> bytes | None:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except ValueError:  # Not base64 (`binascii.Error`), or not even ASCII.
        return None
    return key if KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX else None


def _body(alert: Alert, *, is_plain: bool) -> bytes:
    data: dict[str, Any] = {"title": wording.title(alert, 300), "reason": wording.reason(alert)}
    incident = wording.only(alert)
    incidents = [{**_incident(one), "reason": wording.entry(one, alert.language)} for one in wording.listed(alert)]
    if incident is not None:
        data |= _incident(incident)
        if alert.event is Event.REMINDER:
            data["reminder"] = alert.reminder
        if not is_plain:
            data |= {"explanation": _explanation(incident), "log_tail": wording.log(alert, LOG_LENGTH_MAX)}
    if incidents or alert.omitted:
        data["group"] = alert.group

    def body(count: int) -> bytes:
        many: dict[str, Any] = {}
        if incidents or alert.omitted:
            many["incidents"] = incidents[:count]
            many["omitted"] = alert.omitted + len(incidents) - count
        return to_json(
            {
                "type": f"incident.{alert.event}",
                "id": alert.key,
                "timestamp": wording.iso(alert.at),
                "data": data | many,
            }
        )

    for dropped in ("log_tail", "explanation"):
        if len(body(0)) > BODY_BYTES_MAX:
            data.pop(dropped, None)
    return body(wording.fitting(incidents, BODY_BYTES_MAX, lambda part: body(len(part)).decode(), wording.octets))


def _explanation(incident: IncidentFacts) -> dict[str, Any]:
    return {name: fact for name, fact in incident.explanation.items() if name != "log_tail"}


def _name(text: str) -> str:
    return wording.one_line(text, NAME_LENGTH_MAX)


def _incident(incident: IncidentFacts) -> dict[str, Any]:
    resolved_at = incident.resolved_at
    facts: dict[str, Any] = {
        "guid": incident.guid,
        "state": "open" if incident.is_open else "resolved",
        "severity": incident.severity,
        "kind": incident.kind,
        "started_at": wording.iso(incident.started_at),
        "opened_at": wording.iso(incident.opened_at),
        "resolved_at": resolved_at and wording.iso(resolved_at),
        "url": incident.url,
    }
    if resolved_at is not None:
        facts["duration_seconds"] = max(int((resolved_at - incident.started_at).total_seconds()), 0)
    if by := _name(incident.acknowledged_by):
        facts["acknowledged_by"] = by
    monitor = {
        "project": _name(incident.project),
        "name": _name(incident.monitor),
        "slug": _name(incident.slug),
        "environment": _name(incident.environment),
        "tags": [name for tag in incident.tags[:TAGS_MAX] if (name := wording.one_line(tag))],
    }
    return {"incident": facts, "monitor": monitor}

"""What each service takes, as JSON Schemas: from the documentation that the channel's module names.

`x-utf16` and `x-octets` are limits in the units that the service counts in.
"""

from typing import Any

from jsonschema import Draft202012Validator, ValidationError
from jsonschema.validators import extend

HTTP = "^https?://[^ ]+$"
UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
INSTANT = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"


def _utf16(_validator, limit, text, _schema):
    if isinstance(text, str) and len(text.encode("utf-16-le")) // 2 > limit:
        yield ValidationError(f"longer than {limit} UTF-16 units")


def _octets(_validator, limit, text, _schema):
    if isinstance(text, str) and len(text.encode()) > limit:
        yield ValidationError(f"longer than {limit} bytes")


Validator = extend(Draft202012Validator, {"x-utf16": _utf16, "x-octets": _octets})


def text(longest: int, shortest: int = 1, **more: Any) -> dict:
    return {"type": "string", "minLength": shortest, "x-utf16": longest, **more}


def url(longest: int = 3_000) -> dict:
    return text(longest, pattern=HTTP)


def one(required: dict, optional: dict | None = None) -> dict:
    """An object with these members and no others."""
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def several(items: dict, most: int, least: int = 1) -> dict:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


# --- Slack

_PLAIN = {"type": {"const": "plain_text"}, "emoji": {"type": "boolean"}}
_SLACK_BLOCKS = several(
    {
        "oneOf": [
            one({"type": {"const": "header"}, "text": one({"text": text(150), **_PLAIN})}),
            one(
                {
                    "type": {"const": "section"},
                    "text": one({"type": {"const": "mrkdwn"}, "text": text(3_000)}, {"verbatim": {"type": "boolean"}}),
                }
            ),
            one({"type": {"const": "context"}, "elements": several(one({"text": text(2_000), **_PLAIN}), 10)}),
            one(
                {
                    "type": {"const": "actions"},
                    "elements": several(
                        one({"type": {"const": "button"}, "text": one({"text": text(75), **_PLAIN}), "url": url()}), 25
                    ),
                }
            ),
        ]
    },
    50,
)
_SLACK = {"blocks": _SLACK_BLOCKS, "mrkdwn": {"type": "boolean"}}
SLACK = one({"text": text(40_000)}, _SLACK)
_CHANNEL = text(20, pattern="^C[A-Z0-9]+$")
_TS = text(20, pattern=r"^[0-9]+\.[0-9]+$")
SLACK_POST = one(
    {"channel": _CHANNEL, "text": text(40_000)},
    _SLACK | {"thread_ts": _TS, "reply_broadcast": {"type": "boolean"}, "unfurl_links": {"type": "boolean"}},
)
SLACK_UPDATE = one({"channel": _CHANNEL, "ts": _TS, "text": text(40_000)}, _SLACK)

# --- pagers

PAGERDUTY = {
    "type": "object",
    "required": ["routing_key", "event_action", "dedup_key"],
    "properties": {
        "routing_key": text(32, 32),
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": text(255, pattern=UUID),
        "payload": one(
            {
                "summary": text(1_024),
                "source": text(255),
                "severity": {"enum": ["critical", "error", "warning", "info"]},
            },
            {
                "timestamp": text(20, pattern=INSTANT),
                "component": text(255),
                "group": text(255),
                "class": text(255),
                "custom_details": {"type": "object"},
            },
        ),
        "client": text(255),
        "client_url": url(),
        "links": several(one({"href": url(), "text": text(255)}), 20),
    },
    "additionalProperties": False,
    "if": {"properties": {"event_action": {"const": "trigger"}}},
    "then": {"required": ["payload"]},
    "else": {"maxProperties": 3},
}
OPSGENIE_CREATE = one(
    {"message": text(130), "alias": text(512, pattern=UUID)},
    {
        "description": text(15_000, 0),
        "priority": {"enum": ["P1", "P2", "P3", "P4", "P5"]},
        "source": text(100),
        "entity": text(512),
        "tags": several(text(50), 20, 0),
        "details": {"type": "object", "additionalProperties": text(8_000)},
        "responders": several(one({"type": {"enum": ["team", "user"]}, "name": text(100)}), 50),
    },
)
OPSGENIE_ACTION = one({}, {"source": text(100), "note": text(25_000), "user": text(100)})
SPLUNK_ONCALL = one(
    {
        "message_type": {"enum": ["CRITICAL", "WARNING", "INFO", "ACKNOWLEDGEMENT", "RECOVERY"]},
        "entity_id": text(512, pattern=UUID),
    },
    {
        "entity_display_name": text(512),
        "state_message": text(20_480),
        "state_start_time": {"type": "integer"},
        "monitoring_tool": text(100),
        "ack_author": text(100),
    },
)
GOALERT = one(
    {"summary": text(1_024), "dedup": text(512, pattern=UUID)},
    {"details": text(6_144, 0), "action": {"const": "close"}},
)
GRAFANA_ONCALL = one(
    {"alert_uid": text(100, pattern=UUID), "title": text(1_000), "state": {"enum": ["alerting", "ok"]}},
    {"message": text(20_000, 0), "link_to_upstream_details": url()},
)
ALERTMANAGER = several(
    one(
        {
            "labels": {
                "type": "object",
                "required": ["alertname"],
                "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
                "additionalProperties": text(1_000),
            },
            "annotations": {
                "type": "object",
                "propertyNames": {"pattern": "^[a-zA-Z_][a-zA-Z0-9_]*$"},
                "additionalProperties": text(20_000),
            },
            "startsAt": text(20, pattern=INSTANT),
            "endsAt": text(20, pattern=INSTANT),
        },
        {"generatorURL": url()},
    ),
    1,
)

# --- chats

_RUN = one(
    {"type": {"const": "TextRun"}, "text": text(4_000)},
    {
        "weight": {"const": "Bolder"},
        "size": {"enum": ["Small", "Medium"]},
        "color": {"enum": ["Attention", "Warning", "Good", "Accent"]},
        "isSubtle": {"type": "boolean"},
        "fontType": {"const": "Monospace"},
    },
)
_CARD = one(
    {
        "$schema": {"const": "http://adaptivecards.io/schemas/adaptive-card.json"},
        "type": {"const": "AdaptiveCard"},
        "version": {"const": "1.2"},
        "body": several(one({"type": {"const": "RichTextBlock"}, "inlines": several(_RUN, 10)}), 200),
    },
    {
        "msteams": {"type": "object"},
        "fallbackText": text(1_000),
        "actions": several(one({"type": {"const": "Action.OpenUrl"}, "title": text(100), "url": url()}), 6, 0),
    },
)
TEAMS = one(
    {
        "type": {"const": "message"},
        "attachments": several(
            one(
                {
                    "contentType": {"const": "application/vnd.microsoft.card.adaptive"},
                    "contentUrl": {"type": "null"},
                    "content": _CARD,
                }
            ),
            1,
        ),
    }
)
_EMBED = one(
    {},
    {
        "title": text(256),
        "description": text(4_096),
        "url": url(2_048),
        "color": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFF},
        "timestamp": text(20, pattern=INSTANT),
        "footer": one({"text": text(2_048)}),
    },
)
DISCORD = one(
    {"allowed_mentions": one({"parse": several({}, 0, 0)})},
    {"username": text(80), "content": text(2_000), "embeds": several(_EMBED, 10)},
)
_CHAT_ID = {"anyOf": [{"type": "integer"}, text(64, pattern="^@")]}
_BUTTONS = one({"inline_keyboard": several(several(one({"text": text(64), "url": url()}), 8), 100)})
TELEGRAM = one(
    {"chat_id": _CHAT_ID, "text": text(20_000), "link_preview_options": one({"is_disabled": {"const": True}})},
    {
        "message_id": {"type": "integer"},
        "message_thread_id": {"type": "integer"},
        "parse_mode": {"const": "HTML"},
        "reply_markup": _BUTTONS,
        "reply_parameters": one(
            {"message_id": {"type": "integer"}, "allow_sending_without_reply": {"type": "boolean"}}
        ),
    },
)
NTFY = one(
    {
        "topic": text(64, pattern="^[-_A-Za-z0-9]+$"),
        "message": {"type": "string", "minLength": 1, "x-octets": 4_096},
    },
    {
        "title": {"type": "string", "minLength": 1, "x-octets": 250},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
        "tags": several(text(50, pattern="^[a-z_]+$"), 5),
        "click": url(),
        "actions": several(one({"action": {"const": "view"}, "label": text(100), "url": url()}), 3),
        "sequence_id": text(64, pattern="^[-_A-Za-z0-9]+$"),
    },
)

# --- our own

_INCIDENT = {
    "guid": text(36, pattern=UUID),
    "state": {"enum": ["open", "resolved"]},
    "severity": {"enum": ["info", "warning", "error", "critical"]},
    "kind": {"enum": ["missed", "timeout", "error"]},
    "started_at": text(20, pattern=INSTANT),
    "opened_at": text(20, pattern=INSTANT),
    "resolved_at": {"anyOf": [{"type": "null"}, text(20, pattern=INSTANT)]},
    "url": text(3_000, 0),
}
_MONITOR = {
    "project": text(200, 0),
    "name": text(200, 0),
    "slug": text(200, 0),
    "environment": text(200, 0),
    "tags": several(text(200), 100, 0),
}
_ONE = {
    "incident": one(_INCIDENT, {"duration_seconds": {"type": "integer", "minimum": 0}, "acknowledged_by": text(200)}),
    "monitor": one(_MONITOR),
}
WEBHOOK = one(
    {
        "type": text(40, pattern=r"^incident\.[a-z_]+$"),
        "id": text(36, pattern=UUID),
        "timestamp": text(20, pattern=INSTANT),
        "data": one(
            {"title": text(300), "reason": text(1_500, 0)},
            _ONE
            | {
                "reminder": {"type": "integer", "minimum": 1},
                "explanation": {"type": "object"},
                "log_tail": text(4_000, 0),
                "group": text(36, pattern=UUID),
                "incidents": several(one(_ONE | {"reason": text(300, 0)}), 50, 0),
                "omitted": {"type": "integer", "minimum": 0},
            },
        ),
    }
)

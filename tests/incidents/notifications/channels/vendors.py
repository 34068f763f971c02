"""The services, as far as channels notice them: each checks what comes, and answers like the real one.

`violations` are requests that the real one would refuse. `open` are the alerts of a pager that nobody has closed,
`messages` what people see in a chat, by id, in its newest form.
"""

import html.parser
import itertools
import json
import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import standardwebhooks

from lib.wallclock import utcnow
from tests.incidents.notifications.channels import schemas
from tests.incidents.notifications.channels.receiver import Received, reply

SIGNING_KEY = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


class Vendor:
    """One service. `values` are the settings of a channel that sends to it."""

    schema: dict = {}
    path = "/"
    bytes_max = 500_000

    def __init__(self) -> None:
        self.violations: list[str] = []
        self.contents: list[Any] = []
        self.open: set[str] = set()
        self.messages: dict[str, Any] = {}
        self.numbers = itertools.count(1)

    def values(self, url: str) -> dict[str, str]:
        return {"url": url + self.path}

    def __call__(self, received: Received) -> list[bytes]:
        content = received.json
        self.contents.append(content)
        found = [error.message[:200] for error in schemas.Validator(self.schema_for(received)).iter_errors(content)]
        if len(received.body) > self.bytes_max:
            found.append(f"{len(received.body)} bytes")
        found += self.check(received, content)
        self.violations += found
        return self.refuse(found) if found else self.accept(received, content)

    def schema_for(self, received: Received) -> dict:
        return self.schema

    def check(self, received: Received, content: Any) -> list[str]:
        return []

    def refuse(self, found: list[str]) -> list[bytes]:
        return reply(400, {"errors": found})

    def accept(self, received: Received, content: Any) -> list[bytes]:
        raise NotImplementedError

    def follow(self, key: str, *, is_open: bool) -> None:
        (self.open.add if is_open else self.open.discard)(key)


class Webhook(Vendor):
    schema = schemas.WEBHOOK
    path = "/hooks?channel=a"
    bytes_max = 20_000

    def values(self, url: str) -> dict[str, str]:
        return super().values(url) | {"secret": SIGNING_KEY}

    def check(self, received: Received, content: Any) -> list[str]:
        webhook = standardwebhooks.Webhook(SIGNING_KEY)
        headers = {name: text for name, text in received.headers.items() if name.startswith("webhook-")}
        try:
            # Its clock is the wall clock, ours is that of the test: the age is not what is checked here.
            webhook.verify(received.body.decode(), headers | self.fresh(webhook, headers, received))
        except standardwebhooks.WebhookVerificationError as error:
            return [str(error)]
        return [] if headers["webhook-id"] == content["id"] == received.headers["idempotency-key"] else ["other id"]

    def fresh(self, webhook, headers, received) -> dict[str, str]:
        """The signature with which the other implementation would have signed these very headers."""
        at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
        theirs = webhook.sign(headers["webhook-id"], at, received.body.decode())
        if theirs not in headers["webhook-signature"].split():
            return {}
        now = utcnow()
        signature = webhook.sign(headers["webhook-id"], now, received.body.decode())
        return {"webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}

    def accept(self, received, content):
        return reply(204)


class Slack(Vendor):
    schema = schemas.SLACK
    path = "/services/T024BE91L/B024BE91L/abcdefghijklmnopqrstuvwx"

    def check(self, received, content):
        return mentions(content.get("text", "")) + [
            found
            for block in content.get("blocks", [])
            if block["type"] == "section"
            for found in mentions(block["text"]["text"])
        ]

    def refuse(self, found):
        return reply(400, "invalid_blocks")

    def accept(self, received, content):
        self.messages[str(next(self.numbers))] = content
        return reply(200, "ok")


class SlackBot(Slack):
    def values(self, url):
        return {"token": "xoxb-2147-abcdefghijklmnop", "channel": "C024BE91L", "api_url": f"{url}/api"}

    def schema_for(self, received):
        return {"/api/chat.postMessage": schemas.SLACK_POST, "/api/chat.update": schemas.SLACK_UPDATE}[received.path]

    def refuse(self, found):
        return reply(200, {"ok": False, "error": "invalid_blocks"})

    def accept(self, received, content):
        if received.headers["authorization"] != "Bearer xoxb-2147-abcdefghijklmnop":
            return reply(200, {"ok": False, "error": "invalid_auth"})
        ts = content.get("ts") or f"1784900000.{next(self.numbers):06}"
        if received.path.endswith("update") and ts not in self.messages:
            return reply(200, {"ok": False, "error": "message_not_found"})
        if (thread := content.get("thread_ts")) and thread not in self.messages:
            self.violations.append(f"no thread {thread}")
        self.messages[ts] = content
        return reply(200, {"ok": True, "channel": "C024BE91L", "ts": ts})


def mentions(text: str) -> list[str]:
    """What Slack would turn into something else than a link."""
    return [f"mention {found}" for found in re.findall(r"<[^>]*>", text) if not re.match(r"<https?://[^|>]+\|", found)]


class Teams(Vendor):
    schema = schemas.TEAMS
    path = "/workflows/0123456789abcdef/triggers/manual/paths/invoke?sig=AbCdEfGhIjKlMnOp"
    bytes_max = 28_000

    def accept(self, received, content):
        self.messages[str(next(self.numbers))] = content
        return reply(202)


class Discord(Vendor):
    schema = schemas.DISCORD
    path = "/api/webhooks/1234567890/AbCdEfGhIjKlMnOpQrSt"

    def check(self, received, content):
        embeds = content.get("embeds", [])
        total = sum(len(str(embed.get(name, ""))) for embed in embeds for name in ("title", "description", "footer"))
        found = [] if total <= 6_000 else [f"{total} characters of embeds"]
        if not content.get("content") and not embeds:
            found.append("empty")
        if received.method == "POST" and parse_qs(urlsplit(received.path).query).get("wait") != ["true"]:
            found.append("without wait=true an error is not told")
        return found

    def refuse(self, found):
        return reply(400, {"code": 50035, "message": "Invalid Form Body"})

    def accept(self, received, content):
        path = urlsplit(received.path).path
        if received.method == "PATCH":
            id_ = path.removeprefix(f"{self.path}/messages/")
            if id_ not in self.messages:
                return reply(404, {"code": 10008, "message": "Unknown Message"})
        else:
            id_ = f"11{next(self.numbers):08}"
        self.messages[id_] = content
        return reply(200, {"id": id_})


class Telegram(Vendor):
    schema = schemas.TELEGRAM
    token = "123456789:AAabcdefghijklmnopqrstuvwxyz"

    def values(self, url):
        return {"token": self.token, "chat_id": "-1001234567890", "api_url": url}

    def check(self, received, content):
        if content.get("parse_mode") != "HTML":
            return [] if utf16(content["text"]) <= 4_096 else ["too long"]
        parser = Tags()
        parser.feed(content["text"])
        parser.close()
        return parser.found + ([] if utf16(parser.text) <= 4_096 else [f"{utf16(parser.text)} units"])

    def refuse(self, found):
        return reply(400, {"ok": False, "description": f"Bad Request: can't parse entities: {found}"})

    def accept(self, received, content):
        _, bot, method = received.path.split("/")
        if bot != f"bot{self.token}":
            return reply(404, {"ok": False, "description": "Not Found"})
        id_ = str(content.get("message_id") or next(self.numbers))
        if method == "editMessageText" and id_ not in self.messages:
            return reply(400, {"ok": False, "description": "Bad Request: message to edit not found"})
        if method == "editMessageText" and self.messages[id_]["text"] == content["text"]:
            return reply(400, {"ok": False, "description": "Bad Request: message is not modified"})
        self.messages[id_] = content
        return reply(200, {"ok": True, "result": {"message_id": int(id_)}})


class Tags(html.parser.HTMLParser):
    """Telegram's HTML: few tags, each closed in its place."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.stack: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.stack.append(tag)
        if tag not in {"b", "code", "pre"} or attrs:
            self.found.append(f"tag {tag}")

    def handle_endtag(self, tag):
        if not self.stack or self.stack.pop() != tag:
            self.found.append(f"end of {tag}")

    def handle_data(self, data):
        self.text += data

    def close(self):
        super().close()
        self.found += [f"{tag} is not closed" for tag in self.stack]


def utf16(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


class Ntfy(Vendor):
    schema = schemas.NTFY

    def values(self, url):
        return {"topic": "ops_AbCdEfGh", "token": "tk_abcdefghijklmnopqrstuvwxyz", "server": url}

    def accept(self, received, content):
        id_ = content.get("sequence_id") or str(next(self.numbers))
        self.messages[id_] = content
        return reply(200, {"id": f"id{next(self.numbers)}", "event": "message", "sequence_id": id_})


class PagerDuty(Vendor):
    schema = schemas.PAGERDUTY
    path = "/v2/enqueue"

    def values(self, url):
        return super().values(url) | {"routing_key": "R0123456789ABCDEFGHIJKLMNOPQRSTU"}

    def refuse(self, found):
        return reply(400, {"status": "invalid event", "message": "Event object is invalid", "errors": found})

    def accept(self, received, content):
        if content["event_action"] != "acknowledge":
            self.follow(content["dedup_key"], is_open=content["event_action"] == "trigger")
        return reply(202, {"status": "success", "message": "Event processed", "dedup_key": content["dedup_key"]})


class Opsgenie(Vendor):
    path = "/jsm/ops/integration/v2/alerts"

    def values(self, url):
        return super().values(url) | {"api_key": "0123abcd-0123-4567-89ab-0123456789ab", "team": "Night shift"}

    def schema_for(self, received):
        return schemas.OPSGENIE_CREATE if received.path == self.path else schemas.OPSGENIE_ACTION

    def check(self, received, content):
        query = parse_qs(urlsplit(received.path).query)
        return [] if received.path == self.path or query == {"identifierType": ["alias"]} else [f"query {query}"]

    def refuse(self, found):
        return reply(422, {"message": "Request body is not processable", "errors": found})

    def accept(self, received, content):
        if received.headers["authorization"] != "GenieKey 0123abcd-0123-4567-89ab-0123456789ab":
            return reply(401, {"message": "Could not authenticate"})
        if received.path == self.path:
            self.follow(content["alias"], is_open=True)
        else:
            alias, action = urlsplit(received.path).path.removeprefix(f"{self.path}/").split("/")
            if action == "close":
                self.follow(alias, is_open=False)
            elif action not in {"notes", "acknowledge"}:
                return reply(404)
        return reply(202, {"result": "Request will be processed", "requestId": "43a29c5c"})


class SplunkOnCall(Vendor):
    schema = schemas.SPLUNK_ONCALL
    path = "/integrations/generic/20131114/alert/01234567-89ab-cdef-0123-456789abcdef"

    def values(self, url):
        return {"url": f"{url}{self.path}/$routing_key", "routing_key": "ops team"}

    def accept(self, received, content):
        if received.path != f"{self.path}/ops%20team":
            return reply(404)
        if content["message_type"] in {"CRITICAL", "WARNING", "RECOVERY"}:
            self.follow(content["entity_id"], is_open=content["message_type"] != "RECOVERY")
        return reply(200, {"result": "success", "entity_id": content["entity_id"]})


class GoAlert(Vendor):
    schema = schemas.GOALERT
    path = "/api/v2/generic/incoming?token=01234567-89ab-cdef-0123-456789abcdef"

    def accept(self, received, content):
        is_new = content["dedup"] not in self.open
        self.follow(content["dedup"], is_open="action" not in content)
        if received.headers.get("accept") != "application/json":
            return reply(204)
        return reply(200, {"AlertID": next(self.numbers), "ServiceID": "s", "IsNew": is_new})


class GrafanaOnCall(Vendor):
    schema = schemas.GRAFANA_ONCALL
    path = "/integrations/v1/formatted_webhook/AbCdEfGhIjKlMnOpQrSt/"

    def accept(self, received, content):
        self.follow(content["alert_uid"], is_open=content["state"] == "alerting")
        return reply(200, "Ok.")


class Alertmanager(Vendor):
    schema = schemas.ALERTMANAGER

    def values(self, url):
        return {"url": url, "token": "a-bearer-token-of-a-proxy"}

    def check(self, received, content):
        found = [] if received.path == "/api/v2/alerts" else [received.path]
        return found + ["ends before it starts" for alert in content if alert["endsAt"] < alert["startsAt"]]

    def accept(self, received, content):
        for alert in content:
            key = json.dumps(alert["labels"], sort_keys=True)
            self.messages[key] = alert
        return reply(200)


VENDORS = {
    "webhook": Webhook,
    "slack": Slack,
    "slack_bot": SlackBot,
    "teams": Teams,
    "discord": Discord,
    "telegram": Telegram,
    "ntfy": Ntfy,
    "pagerduty": PagerDuty,
    "opsgenie": Opsgenie,
    "splunk_oncall": SplunkOnCall,
    "goalert": GoAlert,
    "grafana_oncall": GrafanaOnCall,
    "alertmanager": Alertmanager,
}

"""The long tail of services through the package Apprise: one-way, best effort (pure; `apprise_process` sends).

Apprise reports neither whether an error will last nor what was sent: a failure is repeated as one that may pass, and a
time-out is not known to have failed, since its thread may go on and deliver. Nothing is updated, and no repetition is
recognised. Source: https://github.com/caronc/apprise/wiki
"""

import re
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import unquote

from incidents.notifications import guard
from incidents.notifications.alert import Alert, Event
from incidents.notifications.channels import wording
from incidents.notifications.channels.base import (
    EXCERPT_LENGTH_MAX,
    Answer,
    Capability,
    Field,
    Request,
    SendResult,
    SendResultKind,
    Target,
    field_problems,
    hidden,
    post_json,
    read_json,
    value,
)
from incidents.notifications.channels.redaction import redact
from lib.texts import Text

KIND = "apprise"
NAME = Text("Apprise: other services, one-way, best effort")
METHOD = "APPRISE"
"""The method of its requests, which are no HTTP: the child process sends them."""
TITLE_LENGTH_MAX = 200
BODY_LENGTH_MAX = 3_000
URL_LENGTH_MAX = 1_000
URL = Field(
    name="url",
    label=Text("Apprise URL"),
    is_secret=True,
    help=Text("One URL, as mmosts://mattermost.example.com/token. The wiki of Apprise says what each service needs."),
)
FIELDS: tuple[Field, ...] = (URL,)
CAN: frozenset[Capability] = frozenset()
REFUSED_OPTIONS = frozenset(
    {"redirect", "verify", "retry", "wait", "cto", "rto", "store", "template", "cache", "keyfile", "subfile"}
)
"""They would weaken what Watchclock promises: redirects, certificates, time limits, files of this machine."""
OWN = {
    "discord": "Discord",
    "slack": "Slack",
    "tgram": "Telegram",
    "pagerduty": "PagerDuty",
    "opsgenie": "Opsgenie",
    "splunk": "Splunk On-Call",
    "victorops": "Splunk On-Call",
    "goalert": "GoAlert",
    "goalerts": "GoAlert",
    "ntfy": "ntfy",
    "ntfys": "ntfy",
    "workflow": "Microsoft Teams",
    "workflows": "Microsoft Teams",
    "mailto": "E-mail",
    "mailtos": "E-mail",
    "json": "Webhook",
    "jsons": "Webhook",
    "form": "Webhook",
    "forms": "Webhook",
    "xml": "Webhook",
    "xmls": "Webhook",
}
"""Schemas of services that have a channel of their own, which can do more."""
SCHEMAS = frozenset(
    """
    46elks acs apprise apprises atalk bale bark barks betterstack brevo bulksms bulkvs burstsms chanify clickatell
    clicksend cliq cm d7sms dapnet dingtalk dot eight00com elks emby embys enigma2 enigma2s evolution evolutions
    exotel feishu firehydrant flock flowtriq flowtriqs freemobile gchat github gorush gorushs gotify gotifys
    groundmail groupme gupshup hassio hassios httpsms humhub humhubs ifttt ilert infobip jellyfin jellyfins join
    kakao kakaotalk kaleyra kavenegar klr kook kudosity kumulos lametric lametrics lark lauther lfg line mailersend
    mailgun mastodon mastodons matrix matrixs misskey misskeys mmost mmosts mobilemessage mobilemsg msg91 msgbird
    ncloud nclouds nctalk nctalks nexmo notica noticas notifiarr notifico notificos notifyapp notifyre octopush
    onebot onebots onesignal opsimate opsimates pagertree parsep parseps pbul pinglet pinglets pingram pjet pjets
    plivo postmark pover prowl psafer psafers push pushdeer pushdeers pushed pushme pushplus pushward pushy qq
    resend revolt ringc rocket rockets ryver schan sendgrid sendpulse serwersms ses seven sfr signal signalgrid
    signals signl4 simplepush sinch smsc smseagle smseagles smsmanager smsmgr smstunnel smtp2go sns sparkpost spike
    spugpush spush squadcast stackfield synology synologys telesign telnyx threema toot toots trigv trigvs twilio
    twist viber voipms vonage webex wechat wecom wecombot whapi whatsapp wpush wxpusher wxteams xmatters youlmk zalo
    zcliq zohocliq zoom zulip
    """.split()  # noqa: SIM905 - a list of two hundred lines is not easier to read
)
"""The services that may be used: over HTTP only, and without effect on this machine."""
_SCHEMA = re.compile(r"([A-Za-z0-9]+)://.+", re.DOTALL)
_MENTION = re.compile(r"@(?=\**(?:all|channel|here|everyone|room|group|team)\b)", re.IGNORECASE)


def problems(values: Mapping[str, str]) -> dict[str, str]:
    """Return what is wrong with the settings, by field."""
    found = field_problems(FIELDS, values)
    url = values.get(URL.name, "").strip()
    if url and URL.name not in found and (problem := url_problem(url)):
        found[URL.name] = problem
    return found


def url_problem(url: str) -> str:
    """Return why an Apprise URL is not used; empty if it may be. It does not repeat more than the schema."""
    matched = _SCHEMA.fullmatch(url)
    if matched is None or len(url) > URL_LENGTH_MAX or any(character.isspace() for character in url):
        return Text(
            "This is not one Apprise URL, as schema://…, of at most %(most)s characters without spaces.",
            most=URL_LENGTH_MAX,
        )
    if url.count("://") > 1:
        return Text("These look like several URLs; make a channel for each.")
    schema = matched[1].lower()
    if schema in OWN:
        return Text(
            "For %(schema)s:// there is a channel of its own, which can do more: %(name)s.",
            schema=schema,
            name=OWN[schema],
        )
    if schema not in SCHEMAS:
        return Text(
            "%(schema)s:// is not one of the services that may be used; their list is in the documentation.",
            schema=schema[:30],
        )
    refused = sorted(_options(url) & REFUSED_OPTIONS)
    return Text("These options may not be set: %(names)s.", names=", ".join(refused)) if refused else ""


def _options(url: str) -> set[str]:
    """Return the names of the options in a URL, however they are written."""
    names = set()
    for part in re.split(r"[?&;]", unquote(url))[1:] + re.split(r"[?&;]", url)[1:]:
        names.add(unquote(part.partition("=")[0]).strip().lower().lstrip("+-:"))
    return names


def requests(alert: Alert, target: Target, ref: str, *, now: datetime, is_plain: bool = False) -> tuple[Request, ...]:
    """Return the one text for the child process; its type decides about colours where a service has them."""
    del ref, now
    content = {
        "title": _calm(wording.title(alert, TITLE_LENGTH_MAX)),
        "body": _calm(wording.plain_text(alert, BODY_LENGTH_MAX, with_title=False)) or "-",
        "type": _type(alert),
    }
    if is_plain:
        content["body"] = _calm(wording.summary(alert, TITLE_LENGTH_MAX)) or "-"
    return (post_json(value(target, URL), content, secrets=hidden(FIELDS, target), method=METHOD),)


def classify(request: Request, answer: Answer) -> SendResult:
    """Return what the result of the child means."""
    content = read_json(answer)
    log = redact(" ".join(str(content.get("log", "")).split()), request.secrets)
    kind, words = _MEANINGS.get(str(content.get("result")), _MEANINGS["partial"])
    text = f"{words} {log}".strip() if kind in {SendResultKind.TRANSIENT, SendResultKind.UNKNOWN} else words
    return SendResult(kind=kind, excerpt=text[:EXCERPT_LENGTH_MAX])


_MEANINGS = {
    "success": (SendResultKind.DELIVERED, "Apprise has sent it."),
    "failure": (SendResultKind.TRANSIENT, "Apprise could not send it."),
    "timeout": (SendResultKind.UNKNOWN, "The service did not finish in time; it may have the message."),
    "partial": (SendResultKind.UNKNOWN, "Some of its recipients may have the message."),
    "unusable": (SendResultKind.CONFIGURATION, "Apprise does not understand the URL."),
    "refused": (SendResultKind.CONFIGURATION, guard.REFUSAL),
}


def _type(alert: Alert) -> str:
    if alert.event is Event.TEST:
        return "info"
    types = {wording.State.OVER: "success", wording.State.FAILING: "failure", wording.State.ACKNOWLEDGED: "warning"}
    return types.get(wording.state(alert), "info")


def _calm(text: str) -> str:
    """Return a text that mentions nobody: a character without width follows the @."""
    return _MENTION.sub("@\u200b", text)

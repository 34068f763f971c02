"""What each answer of a service means, as the tables of its documentation say."""

from datetime import timedelta

import pytest

from incidents.notifications.alert import Event
from incidents.notifications.channels import SENDERS
from incidents.notifications.channels.base import Answer, SendResultKind, bounded, read_retry_after
from tests.incidents.notifications.channels.alerts import NOW, alert, target
from tests.incidents.notifications.channels.vendors import VENDORS

DELIVERED, TRANSIENT, UNKNOWN = SendResultKind.DELIVERED, SendResultKind.TRANSIENT, SendResultKind.UNKNOWN
MESSAGE, CHANNEL = SendResultKind.MESSAGE_REFUSED, SendResultKind.CHANNEL_REFUSED
CONFIGURATION = SendResultKind.CONFIGURATION
BY_STATUS = {
    **dict.fromkeys((301, 302, 303, 307, 308), CONFIGURATION),
    **dict.fromkeys((401, 403, 404, 405, 410), CHANNEL),
    **dict.fromkeys((400, 413, 422), MESSAGE),
    **dict.fromkeys((408, 425, 429, 500, 502, 503, 504, 520, 521, 524), TRANSIENT),
}
DATE = "Sat, 28 Nov 2026 03:10:00 GMT"
SLOW = {429, 502, 504}


def classify(kind, status, body="", headers=None, event=Event.OPENED, ref=""):
    channel = target(kind, VENDORS[kind]().values("https://receiver.example"))
    request = SENDERS[kind].requests(alert(event), channel, ref, now=NOW)[0]
    return SENDERS[kind].classify(request, Answer(status=status, headers=headers or {}, body=body.encode()))


@pytest.mark.parametrize("kind", VENDORS)
@pytest.mark.parametrize(("status", "expected"), BY_STATUS.items())
def test_an_error_without_words_is_judged_by_its_status(kind, status, expected):
    found = classify(kind, status)
    assert found.kind is expected
    assert found.slows == (status in SLOW)
    assert found.external_ref == ""


SUCCESS = {
    "webhook": [(200, "", ""), (204, "", ""), (202, "thanks", "")],
    "slack": [(200, "ok", "")],
    "slack_bot": [(200, '{"ok":true,"channel":"C1","ts":"1784900000.000100"}', "C1:1784900000.000100")],
    "teams": [(202, "", ""), (200, "1", "")],
    "discord": [(200, '{"id":"112233"}', "112233"), (204, "", "")],
    "telegram": [(200, '{"ok":true,"result":{"message_id":4711}}', "4711")],
    "ntfy": [(200, '{"id":"aBcD","event":"message"}', "aBcD")],
    "pagerduty": [(202, '{"status":"success","dedup_key":"0d6f"}', "0d6f")],
    "opsgenie": [(202, '{"result":"Request will be processed","requestId":"43a29c5c"}', "")],
    "splunk_oncall": [(200, '{"result":"success","entity_id":"0d6f"}', "0d6f")],
    "goalert": [(204, "", ""), (200, '{"AlertID":7,"IsNew":true}', "7")],
    "grafana_oncall": [(200, "Ok.", "")],
    "alertmanager": [(200, "", "")],
}


@pytest.mark.parametrize("kind", VENDORS)
def test_a_success_is_delivered_with_what_later_messages_follow(kind):
    for status, body, ref in SUCCESS[kind]:
        found = classify(kind, status, body)
        assert (found.kind, found.external_ref, found.slows) == (DELIVERED, ref, False)


@pytest.mark.parametrize(
    ("kind", "status", "body", "expected"),
    [
        ("slack", 400, "user_not_found", CHANNEL),
        ("slack", 400, "invalid_token", CHANNEL),
        ("slack", 403, "action_prohibited", CHANNEL),
        ("slack", 404, "channel_not_found", CHANNEL),
        ("slack", 404, "no_service", CHANNEL),
        ("slack", 410, "channel_is_archived", CHANNEL),
        ("slack", 400, "invalid_payload", MESSAGE),
        ("slack", 400, "invalid_blocks", MESSAGE),
        ("slack", 500, "rollup_error", TRANSIENT),
        ("slack", 200, "<html>Sign in</html>", CONFIGURATION),
        *(
            ("slack_bot", 200, f'{{"ok":false,"error":"{error}"}}', expected)
            for expected, errors in {
                CHANNEL: "invalid_auth account_inactive token_revoked missing_scope channel_not_found not_in_channel "
                "is_archived restricted_action",
                MESSAGE: "invalid_blocks msg_too_long no_text too_many_attachments message_not_found "
                "cant_update_message edit_window_closed an_error_of_the_future",
                TRANSIENT: "ratelimited service_unavailable request_timeout",
                UNKNOWN: "internal_error fatal_error",
            }.items()
            for error in errors.split()
        ),
        ("slack_bot", 200, "cut off", UNKNOWN),
        ("pagerduty", 400, '{"errors":["\'payload.severity\' is invalid"]}', MESSAGE),
        ("pagerduty", 400, '{"errors":["Invalid routing key"]}', CHANNEL),
        (
            "teams",
            200,
            "Microsoft Teams endpoint returned HTTP error 429",
            TRANSIENT,
        ),
        (
            "teams",
            200,
            "Microsoft Teams endpoint returned HTTP error 413",
            MESSAGE,
        ),
        ("discord", 404, '{"code":10015,"message":"Unknown Webhook"}', CHANNEL),
        ("discord", 401, '{"code":50027,"message":"Invalid Webhook Token"}', CHANNEL),
        ("discord", 403, '{"code":40333,"message":"internal network error"}', CHANNEL),
        ("discord", 400, '{"code":50035,"message":"Invalid Form Body"}', MESSAGE),
        ("discord", 404, '{"code":10008,"message":"Unknown Message"}', MESSAGE),
        ("telegram", 401, '{"ok":false,"description":"Unauthorized"}', CHANNEL),
        ("telegram", 403, '{"ok":false,"description":"Forbidden: bot was blocked by the user"}', CHANNEL),
        ("telegram", 400, '{"ok":false,"description":"Bad Request: chat not found"}', CHANNEL),
        ("telegram", 400, '{"ok":false,"description":"Bad Request: can\'t parse entities: x"}', MESSAGE),
        ("telegram", 400, '{"ok":false,"description":"Bad Request: message to edit not found"}', MESSAGE),
        ("telegram", 400, '{"ok":false,"description":"Bad Request: message is not modified: same"}', DELIVERED),
        ("telegram", 200, "cut off", UNKNOWN),
        ("ntfy", 200, "<html>A login page</html>", CONFIGURATION),
        ("splunk_oncall", 200, '{"result":"failure","message":"bad"}', MESSAGE),
    ],
)
def test_an_error_with_words_is_judged_by_them(kind, status, body, expected):
    assert classify(kind, status, body).kind is expected


def test_telegram_moves_a_chat():
    body = (
        '{"ok":false,"description":"Bad Request: group chat was upgraded","parameters":{"migrate_to_chat_id":-100123}}'
    )
    found = classify("telegram", 400, body)
    assert (found.kind, found.replaces) == (TRANSIENT, {"chat_id": "-100123"})


@pytest.mark.parametrize(
    ("kind", "status", "body", "headers", "seconds"),
    [
        ("slack_bot", 429, "", {"retry-after": "30"}, 30),
        ("discord", 429, '{"retry_after":1.5,"global":false}', {"retry-after": "2"}, 1.5),
        ("telegram", 429, '{"ok":false,"parameters":{"retry_after":17}}', {}, 17),
        ("webhook", 503, "", {"retry-after": "86400"}, 3_600),
        ("webhook", 429, "", {"retry-after": "-5"}, 0),
    ],
)
def test_a_receiver_says_how_long_to_wait_up_to_an_hour(kind, status, body, headers, seconds):
    assert classify(kind, status, body, headers).retry_after == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (
            {"retry-after": "Sat, 28 Nov 2026 03:12:00 GMT", "date": DATE},
            timedelta(minutes=2),
        ),
        ({"retry-after": "Sat, 28 Nov 2026 03:08:00 GMT", "date": DATE}, timedelta()),
        ({"retry-after": "Sat, 28 Nov 2026 03:12:00 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e300"}, None),
        ({}, None),
    ],
)
def test_a_wait_may_be_a_date(headers, expected):
    assert read_retry_after(headers) == expected


def test_a_wait_is_never_negative():
    assert bounded(timedelta(seconds=-1)) == timedelta()


def test_a_change_of_a_message_gives_no_new_reference():
    body = '{"ok":true,"channel":"C1","ts":"1784900000.000100"}'
    assert classify("slack_bot", 200, body, event=Event.ACKNOWLEDGED, ref="C1:1784900000.000100").external_ref == ""


def test_a_workflow_that_is_gone_is_explained():
    assert "its owner may have left" in classify("teams", 404).excerpt


def test_an_excerpt_is_one_short_line_of_printable_characters():
    found = classify("webhook", 500, "a\nb\x1b[31m\x00" + "x" * 5_000)
    assert found.excerpt.startswith("500 a b?[31m?xxx")
    assert len(found.excerpt) == 500


def test_a_secret_that_was_cut_off_is_not_shown():
    secret = VENDORS["webhook"]().values("")["secret"]
    # Redacting makes the text so short that its end, with half a secret, comes into the excerpt.
    body = (secret * 200)[:4_096]
    assert not body.endswith(secret)
    assert secret[:8] not in classify("webhook", 400, body).excerpt

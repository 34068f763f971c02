"""Each channel with its service, over a real socket: what it takes, what people see, and what no text may do."""

import logging
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as bounds
from hypothesis import strategies as st

from incidents.notifications.acknowledged import NOTIFIED_OF_NONE
from incidents.notifications.alert import Event, Severity
from incidents.notifications.channels import SENDERS, base
from incidents.notifications.channels.base import Answer, Capability, SendResultKind
from incidents.notifications.channels.callbacks import CALLBACKS
from tests.incidents.notifications.channels import schemas
from tests.incidents.notifications.channels.alerts import (
    ABOUT_MANY,
    ABOUT_ONE,
    GUID,
    NOW,
    STORM,
    alert,
    exchange,
    exchange_all,
    incident,
    many,
    target,
)
from tests.incidents.notifications.channels.receiver import reply, running_receiver
from tests.incidents.notifications.channels.vendors import SIGNING_KEY, VENDORS, Vendor

PAGERS = {"pagerduty", "opsgenie", "splunk_oncall", "goalert", "grafana_oncall"}
UPDATED = {kind for kind, sender in SENDERS.items() if Capability.UPDATE in sender.CAN} - PAGERS - {"alertmanager"}
HOSTILE = {
    "line breaks": "a\r\nBcc: b@example.com\n\n\x00\x1b[31mred\u2028b",
    "mentions": "@everyone @here @channel <!channel> <@U0123> <@&1> @**all** <#C1> [x](https://evil.example)",
    "html": "</b></pre><script>alert(1)</script><a href='x'>&amp;&lt;",
    "markdown": "```*_~`|># - [x](y) \\ **b** ||s|| ![i](j) ~~~ \n# head\n- item",
    "direction": "\u202egnp.exe\u2066\u200f\u05e9\u05dc\u05d5\u05dd \u0639\u0627\u0644\u0645",
    "emoji": "🌙" * 3_000,
    "quotes": '"\'\\"}{,\\u0000 ${jndi:ldap://x} {{7*7}} %s %n',
    "combining": "e" + "\u0301" * 5_000,
    "long": "x" * 10_000,
    "long with ends": "&<>" * 4_000,
    "blank": " \t\n ",
}


@pytest.fixture(params=list(VENDORS))
def kind(request):
    return request.param


@pytest.fixture
def vendor(kind):
    return VENDORS[kind]()


@pytest.fixture
def receiver(vendor):
    with running_receiver(vendor) as receiver:
        yield receiver


@pytest.fixture
def channel(kind, vendor, receiver):
    return target(kind, vendor.values(receiver.url))


def tell(channel, what, ref="", **options):
    """Send an alert for real."""
    sender = SENDERS[channel.kind]
    return exchange(sender.requests(what, channel, ref, now=NOW, **options), sender.classify)


class TestTheStoryOfAnIncident:
    def tell_all(self, channel, events, ref=""):
        for event in events:
            found = tell(channel, alert(event), ref)
            assert found.kind is SendResultKind.DELIVERED, (event, found)
            ref = ref or found.external_ref
        return ref

    def test_each_event_is_taken(self, channel, vendor):
        self.tell_all(channel, ABOUT_ONE[:-1])
        assert vendor.violations == []
        assert vendor.contents

    def test_a_pager_has_an_alert_from_the_opening_to_the_end(self, kind, channel, vendor):
        self.tell_all(channel, [Event.OPENED, Event.REMINDER, Event.ACKNOWLEDGED])
        assert vendor.open == ({str(GUID)} if kind in PAGERS else set())
        self.tell_all(channel, [Event.RESOLVED])
        assert vendor.open == set()

    def test_a_pager_is_not_told_what_is_over_already(self, kind, channel, vendor):
        assert tell(channel, alert(Event.PASSED)).kind is SendResultKind.DELIVERED
        assert vendor.violations == []
        assert (vendor.contents == []) == (kind in PAGERS | {"alertmanager"})

    def test_the_first_message_is_changed_where_the_service_can(self, kind, channel, vendor):
        ref = self.tell_all(channel, [Event.OPENED])
        first = list(vendor.messages)
        self.tell_all(channel, [Event.ACKNOWLEDGED], ref)
        if kind in UPDATED:
            assert ref
            assert list(vendor.messages) == first
            assert "acknowledged by Ada" in str(vendor.messages[first[0]])

    def test_the_end_is_seen_in_the_first_message_and_noticed_as_a_new_one(self, kind, channel, vendor):
        ref = self.tell_all(channel, [Event.OPENED])
        first = list(vendor.messages)
        found = tell(channel, alert(Event.RESOLVED), ref)
        if kind in UPDATED:
            assert "recovered" in str(vendor.messages[first[0]])
            assert len(vendor.messages) == (1 if kind == "ntfy" else 2)
            assert found.external_ref == "" or kind == "ntfy"

    def test_an_escalation_reaches_a_channel_that_was_not_told_before(self, kind, channel, vendor):
        self.tell_all(channel, [Event.ESCALATED])
        assert len(vendor.contents) == 1
        assert vendor.open == ({str(GUID)} if kind in PAGERS else set())

    def test_the_end_is_told_without_a_reference_to_the_beginning(self, kind, channel, vendor):
        assert tell(channel, alert(Event.RESOLVED)).kind is SendResultKind.DELIVERED
        assert len(vendor.contents) == 1
        assert "recovered" in str(vendor.contents) or kind in PAGERS | {"alertmanager"}

    def test_a_message_that_is_gone_is_replaced_by_a_new_one(self, kind, channel, vendor):
        ref = self.tell_all(channel, [Event.OPENED])
        vendor.messages.clear()
        found = tell(channel, alert(Event.ACKNOWLEDGED), ref)
        if found.kind is SendResultKind.MESSAGE_REFUSED:
            found = tell(channel, alert(Event.ACKNOWLEDGED), ref, is_plain=True)
            assert kind in {"slack_bot", "discord", "telegram"}
            assert len(vendor.messages) == 1
        assert found.kind is SendResultKind.DELIVERED


class TestStorms:
    def test_a_storm_is_one_alert_of_a_pager_until_its_last_member_is_resolved(self, kind, channel, vendor):
        assert tell(channel, alert(Event.DIGEST)).kind is SendResultKind.DELIVERED
        assert vendor.open == ({str(STORM)} if kind in PAGERS else set())
        assert tell(channel, alert(Event.DIGEST)).kind is SendResultKind.DELIVERED
        assert tell(channel, alert(Event.STORM_OVER)).kind is SendResultKind.DELIVERED
        assert vendor.open == set()
        assert vendor.violations == []

    def test_what_is_not_listed_is_counted(self, kind, channel, vendor):
        what = alert(Event.DIGEST, incidents=many(Event.OPENED, 50, reason="x " * 200), omitted=2_750)
        assert tell(channel, what).kind is SendResultKind.DELIVERED
        assert vendor.violations == []
        if kind == "webhook":
            [content] = vendor.contents
            assert len(content["data"]["incidents"]) + content["data"]["omitted"] == 2_800
        else:
            text = str(vendor.contents)
            listed = sum(f"Job {number} (" in text for number in range(50))
            assert listed >= 5
            assert f"and {2_800 - listed:,} more" in text

    def test_a_digest_of_one_says_which_job_it_is(self, channel, vendor):
        """What the quiet hours of a channel held: the headline only counts."""
        held = {"title": "1 job is failing", "reason": "This happened during your quiet hours.", "omitted": 0}
        what = alert(Event.DIGEST, incidents=many(Event.OPENED, 1), **held)
        assert tell(channel, what).kind is SendResultKind.DELIVERED
        assert "Job 0" in str(vendor.contents)
        assert vendor.violations == []

    def test_the_worst_is_listed_first(self, channel, vendor):
        worst = incident(Event.OPENED, monitor="The worst", severity=Severity.CRITICAL)
        long = many(Event.OPENED, 49, reason="x " * 200)
        assert tell(channel, alert(Event.DIGEST, incidents=(*long, worst))).kind is SendResultKind.DELIVERED
        text = str(vendor.contents)
        assert "The worst" in text or vendor.contents[0]["data"]["incidents"][0]["monitor"]["name"] == "The worst"

    def test_a_digest_of_what_is_over_opens_no_alert(self, kind, channel, vendor):
        over = many(Event.RESOLVED, 3)
        assert tell(channel, alert(Event.DIGEST, incidents=over, omitted=0)).kind is SendResultKind.DELIVERED
        assert vendor.open == set()
        assert vendor.violations == []


class TestNews:
    def test_a_test_is_seen_and_leaves_nothing_open(self, kind, channel, vendor):
        assert tell(channel, alert(Event.TEST)).kind is SendResultKind.DELIVERED
        assert vendor.violations == []
        assert vendor.contents
        assert vendor.open == set()

    def test_the_clock_tells_about_itself(self, kind, channel, vendor):
        what = alert(Event.CLOCK, group=STORM)
        assert tell(channel, what).kind is SendResultKind.DELIVERED
        assert vendor.violations == []
        assert vendor.open == ({str(STORM)} if kind in PAGERS else set())

    def test_the_end_of_what_the_clock_told_closes_its_alert(self, channel, vendor):
        tell(channel, alert(Event.CLOCK, group=STORM))
        assert tell(channel, alert(Event.RESOLVED, group=STORM, incidents=())).kind is SendResultKind.DELIVERED
        assert vendor.open == set()
        assert vendor.violations == []


class TestHostileTexts:
    @pytest.mark.parametrize("words", HOSTILE.values(), ids=list(HOSTILE))
    def test_the_service_takes_them_at_once(self, channel, vendor, words):
        sender = SENDERS[channel.kind]
        alerts = [self.hostile(event, words) for event in (*ABOUT_ONE, *ABOUT_MANY)]
        messages = [sender.requests(one, channel, "", now=NOW) for one in alerts]
        kinds = {found.kind for found in exchange_all(messages, sender.classify)}
        assert (kinds, vendor.violations) == ({SendResultKind.DELIVERED}, [])

    @pytest.mark.parametrize("words", HOSTILE.values(), ids=list(HOSTILE))
    def test_the_plain_form_is_taken_too_and_is_a_new_message(self, channel, vendor, words):
        found = tell(channel, self.hostile(Event.OPENED, words), "1784900000", is_plain=True)
        assert found.kind is SendResultKind.DELIVERED, vendor.violations
        assert vendor.violations == []
        assert len(vendor.contents) == 1

    def hostile(self, event, words):
        facts = {
            "project": words,
            "slug": words[:50],
            "monitor": words,
            "environment": words,
            "tags": (words, words) * 20,
            "reason": words,
            "log_tail": words * 3,
            "acknowledged_by": words,
            "explanation": {"crontab": "* * * * *", "words": words},
        }
        changes = {"incidents": (incident(event, **facts),) if event in ABOUT_ONE else many(event, 50, **facts)}
        return alert(event, title=words, reason=words, **changes)


class TestRequests:
    EVENTS = tuple(Event)

    def requests(self, kind, event, url="https://receiver.example", **options):
        vendor: Vendor = VENDORS[kind]()
        channel = target(kind, vendor.values(url))
        return SENDERS[kind].requests(alert(event), channel, options.pop("ref", ""), now=NOW, **options)

    @pytest.mark.parametrize("event", EVENTS)
    def test_a_repetition_has_the_same_bytes_apart_from_dates(self, kind, event):
        first = self.requests(kind, event)
        vendor = VENDORS[kind]()
        channel = target(kind, vendor.values("https://receiver.example"))
        later = SENDERS[kind].requests(alert(event), channel, "", now=NOW + timedelta(hours=1))
        if kind == "alertmanager":
            assert [request.body.split(b'"endsAt"')[0] for request in first] == [
                request.body.split(b'"endsAt"')[0] for request in later
            ]
        else:
            assert [request.body for request in first] == [request.body for request in later]
        assert [request.url for request in first] == [request.url for request in later]

    @pytest.mark.parametrize("event", EVENTS)
    @pytest.mark.parametrize("is_plain", [False, True])
    def test_each_request_knows_the_secrets_that_it_carries(self, kind, event, is_plain):
        secrets = {
            VENDORS[kind]().values("https://receiver.example")[field.name]
            for field in SENDERS[kind].FIELDS
            if field.is_secret and field.name in VENDORS[kind]().values("")
        }
        for request in self.requests(kind, event, is_plain=is_plain):
            assert set(request.secrets) == secrets

    @pytest.mark.parametrize("event", EVENTS)
    def test_a_key_that_only_signs_or_checks_is_in_no_request(self, kind, event):
        keys = {field.name for field in SENDERS[kind].FIELDS if field.is_secret and not field.is_sent}
        values = VENDORS[kind]().values("https://receiver.example") | dict.fromkeys(keys, SIGNING_KEY)
        for request in SENDERS[kind].requests(alert(event), target(kind, values), "", now=NOW):
            sent = f"{request.url} {request.headers} {request.body!r}"
            assert SIGNING_KEY not in sent
            assert SIGNING_KEY.removeprefix("whsec_") not in sent

    def test_no_message_is_made_of_an_acknowledgement_of_which_nothing_would_be_sent(self, kind):
        """It would be shown as sent."""
        assert (kind in NOTIFIED_OF_NONE) == (not self.requests(kind, Event.ACKNOWLEDGED))

    def test_no_repr_shows_a_secret(self, kind):
        values = VENDORS[kind]().values("https://receiver.example")
        shown = repr(target(kind, values)) + "".join(map(repr, self.requests(kind, Event.OPENED)))
        shown += str(target(kind, values)) + f"{self.requests(kind, Event.OPENED)}"
        assert [value for value in values.values() if value in shown and "://" not in value] == []
        assert "sig=" not in shown
        assert "AbCdEf" not in shown

    def test_an_alert_survives_being_stored(self, kind):
        stored = msgspec.json.encode(alert(Event.DIGEST))
        assert msgspec.json.decode(stored, type=type(alert(Event.DIGEST))) == alert(Event.DIGEST)

    @given(st.sampled_from(Event), st.text(), st.text(max_size=3_000), st.booleans())
    @bounds(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
    def test_any_text_gives_requests_within_the_limits(self, kind, event, words, log, is_plain):
        vendor = VENDORS[kind]()
        channel = target(kind, vendor.values("https://receiver.example"))
        facts = {"monitor": words, "environment": words, "reason": log, "log_tail": log, "acknowledged_by": words}
        members = (incident(event, **facts),) * (2 if event in ABOUT_MANY else 1)
        what = alert(event, title=words, reason=log, incidents=members)
        for request in SENDERS[kind].requests(what, channel, "", now=NOW, is_plain=is_plain):
            assert len(request.body) <= vendor.bytes_max
            content = msgspec.json.decode(request.body)
            if kind not in {"slack_bot", "opsgenie"}:
                assert list(schemas.Validator(vendor.schema).iter_errors(content)) == []


class TestSecrets:
    @pytest.mark.parametrize("status", [200, 400, 401, 500])
    def test_what_comes_back_is_shown_without_them(self, kind, vendor, receiver, channel, caplog, status):
        def echo(received):
            said = f"{received.path} {received.headers} {received.body.decode()} "
            return reply(status, {"description": said, "error": said, "id": "1"})

        receiver.answer = echo
        with caplog.at_level(logging.DEBUG):
            found = tell(channel, alert(Event.OPENED))
        hidden = [
            channel.values[field.name]
            for field in SENDERS[kind].FIELDS
            if field.is_secret and field.name in channel.values
        ]
        parts = {
            part for value in hidden for part in value.replace("?", "/").replace("=", "/").split("/") if len(part) > 9
        }
        parts -= {receiver.url.removeprefix("http://"), "$routing_key"}
        for text in (found.excerpt, repr(found), caplog.text):
            assert [part for part in parts if part in text] == []
        assert len(found.excerpt) <= base.EXCERPT_LENGTH_MAX
        assert str(status) in found.excerpt


class TestFields:
    def test_what_the_suite_uses_is_accepted(self, kind, vendor):
        assert SENDERS[kind].problems(vendor.values("https://receiver.example")) == {}

    def test_what_is_needed_is_asked_for(self, kind):
        assert set(SENDERS[kind].problems({})) == {field.name for field in SENDERS[kind].FIELDS if field.is_required}

    def test_an_unknown_setting_is_named(self, kind, vendor):
        assert set(SENDERS[kind].problems(vendor.values("https://receiver.example") | {"ulr": "x"})) == {"ulr"}

    def test_a_line_break_in_a_setting_is_refused(self, kind, vendor):
        good = vendor.values("https://receiver.example")
        for name in good:
            assert name in SENDERS[kind].problems(good | {name: good[name] + "\r\nx: y"})

    def test_no_problem_repeats_a_secret(self, kind, vendor):
        good = vendor.values("https://receiver.example")
        bad = {name: value + " \x07" for name, value in good.items()}
        bad |= {name: "ftp://secret.example/aVerySecretPart" for name in good if name.endswith("url")}
        said = str(SENDERS[kind].problems(bad))
        secrets = [good[field.name] for field in SENDERS[kind].FIELDS if field.is_secret and field.name in good]
        assert [secret for secret in secrets if secret in said] == []
        assert "aVerySecretPart" not in said

    def test_the_registry_says_what_the_module_says(self, kind):
        sender = SENDERS[kind]
        assert kind == sender.KIND
        assert sender.NAME
        assert all(
            field.label and field.kind in {"url", "text", "choice", "email", "number"} for field in sender.FIELDS
        )

    def test_those_that_claim_callbacks_are_those_that_are_heard(self, kind):
        assert (Capability.CALLBACK in SENDERS[kind].CAN) == (kind in CALLBACKS)


def test_an_address_with_a_user_name_is_refused_at_once():
    assert "user name" in SENDERS["webhook"].problems({"url": "https://a:b@w.example/", "secret": "x"})["url"]


def test_an_answer_that_is_no_json_breaks_no_channel(kind):
    vendor = VENDORS[kind]()
    channel = target(kind, vendor.values("https://receiver.example"))
    for request in SENDERS[kind].requests(alert(Event.OPENED), channel, "", now=NOW):
        for status in (200, 202, 302, 400, 404, 429, 500):
            for body in (b"", b"\xff\xfe", b"[1]", b'{"ok":', b"null", b'{"parameters":3,"result":[]}', b"[" * 5_000):
                assert SENDERS[kind].classify(request, Answer(status=status, headers={}, body=body)).kind

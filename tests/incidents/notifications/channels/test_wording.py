import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incidents.notifications.alert import Event, Severity
from incidents.notifications.channels import wording
from incidents.notifications.channels.wording import State, cut, fitting, octets, utf16
from tests.incidents.notifications.channels.alerts import INCIDENT, OPENED_AT, alert, incident

SIZES = [len, octets, utf16]


@given(st.text(), st.integers(3, 50), st.sampled_from(SIZES))
def test_a_cut_text_is_never_too_long_in_any_unit(text, limit, size):
    assert size(cut(text, limit, size)) <= limit


@given(st.text(), st.sampled_from(SIZES))
def test_a_text_that_fits_is_not_cut(text, size):
    assert cut(text, size(text), size) == text


@given(st.text("ab🌙é", min_size=5), st.sampled_from(SIZES))
def test_as_much_as_fits_is_kept(text, size):
    limit = size(text) - 1
    kept = cut(text, limit, size)
    assert kept.endswith("…")
    assert text.startswith(kept[:-1])
    assert limit - size(kept) < size("🌙")


def test_lengths_are_those_of_the_services():
    assert (len("🌙é"), octets("🌙é"), utf16("🌙é")) == (2, 6, 3)


@given(st.lists(st.text(max_size=10)), st.integers(0, 60))
def test_as_many_items_as_fit_are_counted(items, limit):
    count = fitting(items, limit, "".join, len)
    assert len("".join(items[:count])) <= limit
    assert count == len(items) or len("".join(items[: count + 1])) > limit


@given(st.text())
def test_a_line_is_one_line_without_control_characters(text):
    line = wording.one_line(text)
    assert not [character for character in line if unicodedata.category(character) in {"Cc", "Zl", "Zp"}]
    assert len(line) <= wording.NAME_LENGTH_MAX


def test_a_headline_is_never_empty():
    assert wording.title(alert(Event.OPENED, title=" \n\x00"), 100) == "Watchclock"


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (Event.OPENED, State.FAILING),
        (Event.REMINDER, State.FAILING),
        (Event.ESCALATED, State.FAILING),
        (Event.ACKNOWLEDGED, State.ACKNOWLEDGED),
        (Event.RESOLVED, State.OVER),
        (Event.PASSED, State.OVER),
        (Event.DIGEST, State.FAILING),
        (Event.STORM_OVER, State.OVER),
        (Event.CLOCK, State.NOTE),
        (Event.TEST, State.NOTE),
    ],
)
def test_each_event_has_its_look(event, expected):
    assert wording.state(alert(event)) is expected


def test_a_digest_fails_while_one_of_its_incidents_is_open():
    mixed = (incident(Event.RESOLVED), incident(Event.OPENED))
    assert wording.state(alert(Event.DIGEST, incidents=mixed)) is State.FAILING
    assert wording.state(alert(Event.DIGEST, incidents=mixed[:1] * 2)) is State.OVER


def test_the_severity_is_the_worst_one():
    mixed = tuple(incident(severity=severity) for severity in (Severity.WARNING, Severity.CRITICAL, Severity.INFO))
    assert wording.severity(alert(Event.DIGEST, incidents=mixed)) is Severity.CRITICAL
    assert wording.severity(alert(Event.CLOCK)) is Severity.WARNING
    assert wording.severity(alert(Event.TEST)) is Severity.INFO


def test_open_incidents_are_listed_before_those_that_recovered():
    over = incident(Event.RESOLVED, monitor="over", severity=Severity.CRITICAL)
    mild, bad = (incident(monitor=name, severity=Severity(name)) for name in ("info", "error"))
    listed = wording.listed(alert(Event.DIGEST, incidents=(over, mild, bad)))
    assert [one.monitor for one in listed] == ["error", "info", "over"]


def test_a_list_says_who_recovered_and_how_many_more_there_are():
    what = alert(Event.DIGEST, incidents=(incident(), incident(Event.RESOLVED)), omitted=1_200)
    first, second, more = wording.listing(what, 1_000).split("\n")
    assert first.startswith("- nightly-backup (production): Expected")
    assert second.startswith("- nightly-backup (production): recovered. Expected")
    assert more == "and 1,200 more"


def test_the_last_lines_of_a_log_are_kept():
    what = alert(Event.OPENED, incidents=(incident(log_tail="\n".join(f"line {number}" for number in range(30))),))
    assert wording.log(what, 20) == "line 28\nline 29"
    assert wording.log(what, 5) == "line…"


@pytest.mark.parametrize("event", [Event.RESOLVED, Event.PASSED, Event.DIGEST, Event.TEST])
def test_a_log_is_shown_only_while_one_job_fails(event):
    assert wording.log(alert(event), 1_000) == ""


def test_who_has_acknowledged_is_not_asked_again():
    assert [label for label, _ in wording.links(alert(Event.OPENED))] == ["Acknowledge", "Open incident"]
    taken = (incident(acknowledged_by="Ada"),)
    assert [label for label, _ in wording.links(alert(Event.REMINDER, incidents=taken))] == ["Open incident"]


@pytest.mark.parametrize("url", ["", "javascript:alert(1)", "https://a\nb", "/i/1"])
def test_only_web_addresses_become_links(url):
    broken = (incident(url=url, acknowledge_url=url),)
    assert wording.links(alert(Event.OPENED, url=url, incidents=broken)) == []


def test_facts_are_in_the_zone_of_the_channel():
    assert "since 2026-11-28 04:10 Europe/Berlin" in wording.about(alert(Event.OPENED), "Europe/Berlin")
    assert wording.moment(OPENED_AT, "Mars/Olympus") == "2026-11-28 03:10 UTC"
    assert wording.about(alert(Event.DIGEST), "UTC") == []


def test_a_plain_text_has_the_reason_first_then_links_and_the_log_last():
    text = wording.plain_text(alert(Event.OPENED), 4_000)
    order = ["nightly-backup (production) is failing", "Expected at", "Acknowledge: https", "exit 2"]
    assert sorted(order, key=text.index) == order


@given(st.integers(10, 3_000), st.sampled_from(SIZES), st.sampled_from(Event), st.text(max_size=200))
def test_a_plain_text_fits(limit, size, event, words):
    what = alert(event, reason=words * 20)
    assert size(wording.plain_text(what, limit, size)) <= limit


def test_a_crontab_is_told_from_the_text_around_it():
    pieces = wording.code_spans("at (*/5 3 * * 1#2,3L), late", [INCIDENT])
    assert pieces == [("at (", False), ("*/5 3 * * 1#2,3L", True), ("), late", False)]


@given(st.text(), st.text())
def test_no_text_is_lost_around_a_crontab(text, crontab):
    incidents = [incident(explanation={"crontab": crontab})]
    assert "".join(piece for piece, _ in wording.code_spans(text, incidents)) == text


def test_an_instant_is_written_in_utc():
    assert wording.iso(datetime(2026, 3, 28, 23, 59, 59, 999_999, UTC)) == "2026-03-28T23:59:59Z"

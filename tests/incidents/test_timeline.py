"""The timeline of an incident or issue: every change with who or what, when and why, in order."""

from datetime import timedelta

from incidents.timeline import (
    AuditRow,
    CommentRow,
    DutyRow,
    IncidentRow,
    OccurrenceRow,
    What,
    timeline,
)
from tests.factories import NOW

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


def incident(id_=1, *, at=NOW, over_at=None, count=1):
    return IncidentRow(id_, at - MINUTE, at, over_at, count)


def told(at, *, change="opened", recipient="chat", state="sent", error=""):
    return DutyRow(at, change, recipient, "route 'all' catches everything", state, error)


def did(at, action, kind="incident", **changes):
    return AuditRow(at, kind, action, "anna", changes)


def kinds(entries):
    return [entry.what for entry in entries]


def test_the_life_of_an_incident_in_order():
    entries = timeline(
        incidents=[incident(over_at=NOW + HOUR, count=2)],
        occurrences=[
            OccurrenceRow(NOW, "Expected at 10:00 UTC, no check-in by 10:01."),
            OccurrenceRow(NOW + 30 * MINUTE, "Reported an error at 10:31 UTC."),
        ],
        duties=[told(NOW + MINUTE), told(NOW + HOUR + MINUTE, change="resolved")],
        audit=[did(NOW + 10 * MINUTE, "acknowledged", via=[None, "the admin"])],
        comments=[CommentRow(NOW + 20 * MINUTE, "bert", "The disk is full.")],
    )
    assert [(entry.what, entry.who) for entry in entries] == [
        (What.OPENED, "Watchclock"),
        (What.OCCURRENCE, "the job"),
        (What.NOTIFIED, "Watchclock"),
        (What.ACKNOWLEDGED, "anna"),
        (What.COMMENT, "bert"),
        (What.OCCURRENCE, "the job"),
        (What.RESOLVED, "the job"),
        (What.NOTIFIED, "Watchclock"),
    ]
    assert entries[3].text == "by the admin"
    assert entries[6].text == "Incident 1 ended after 2 failures."


def test_the_failure_that_opened_it_says_why():
    entries = timeline(incidents=[incident()], occurrences=[OccurrenceRow(NOW, "Expected at 10:00 UTC.")])
    assert kinds(entries) == [What.OPENED, What.OCCURRENCE]
    assert entries[1].text == "Expected at 10:00 UTC."


def test_a_later_incident_of_an_issue_is_a_regression():
    entries = timeline(incidents=[incident(2, at=NOW + HOUR), incident(1, over_at=NOW + MINUTE)])
    assert kinds(entries) == [What.OPENED, What.RESOLVED, What.REGRESSED]


def test_recipients_with_the_same_result_are_one_entry():
    [_, entry] = timeline(
        incidents=[incident()],
        duties=[told(NOW + MINUTE, recipient=name) for name in ("a@example.com", "b@example.com")],
    )
    assert entry.text == (
        "“opened” to a@example.com (route 'all' catches everything), b@example.com (route 'all' catches everything): "
        "sent."
    )


def test_what_was_not_delivered_says_why():
    [_, entry] = timeline(incidents=[incident()], duties=[told(NOW + MINUTE, state="failed", error="404 no such room")])
    assert entry.text.endswith(": failed: 404 no such room.")


def test_what_people_did_is_said_in_words():
    entries = timeline(
        incidents=[],
        audit=[
            did(NOW, "resolved", kind="issue"),
            did(NOW + MINUTE, "archived", kind="issue"),
            did(NOW + 2 * MINUTE, "assigned", kind="issue", assignee=[None, "bert"]),
            did(NOW + 3 * MINUTE, "unassigned", kind="issue", assignee=["bert", None]),
            did(NOW + 4 * MINUTE, "muted", kind="monitor"),
            did(NOW + 5 * MINUTE, "snoozed", kind="monitor", snoozed_until=[None, "2026-01-06T00:00:00+00:00"]),
            did(NOW + 6 * MINUTE, "changed", kind="monitor", margin=[1, 5]),
        ],
    )
    assert [entry.text for entry in entries] == [
        "resolved by hand",
        "archived",
        "assigned to bert",
        "assigned to nobody",
        "the monitor was muted",
        "snoozed until 2026-01-06T00:00:00+00:00",
    ]


def test_at_the_same_instant_causes_come_before_effects():
    entries = timeline(
        incidents=[incident()],
        duties=[told(NOW)],
        audit=[did(NOW, "acknowledged")],
        comments=[CommentRow(NOW, "a", "b")],
    )
    assert kinds(entries) == [What.OPENED, What.NOTIFIED, What.ACKNOWLEDGED, What.COMMENT]

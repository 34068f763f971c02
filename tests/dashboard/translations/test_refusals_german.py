"""Sentences of services and of pure modules are in the reader's language: what is refused, what is wrong, and why."""

import ast
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import pytest
from django.utils import translation

from dashboard.texts import said
from health.clock.lag import explain
from health.facts import Facts, Intake, Outage, Rows, TickFacts
from incidents.notifications import configuring
from incidents.notifications.channels import SENDERS
from incidents.notifications.conditions import parse_lines
from incidents.notifications.previewing import ALL_CAUGHT, Uncaught
from incidents.notifications.pursuit import parse_steps, read_step_lines
from lib.texts import Text
from monitors.limits import parse_limits
from monitors.schedule import Schedule, parse_crontab, parse_interval, parse_timezone, refuse_without_time
from tests import factories
from tests.dashboard.pages.conftest import as_role as as_role
from tests.dashboard.pages.conftest import environment as environment
from tests.dashboard.pages.conftest import incident as incident
from tests.dashboard.pages.conftest import monitor as monitor
from tests.dashboard.pages.conftest import words

ROOT = Path(__file__).resolve().parents[3]
SHOWN = {
    *("MembershipError", "SnoozeError", "AssignmentError", "CommentError", "DependencyError", "RotationError"),
    *("TooManyWindowsError", "WindowOverError", "ScheduleError", "LimitError", "ConditionError", "StepError"),
    *("ChannelError", "ShareLinkError", "SavedViewError", "SelectionError", "PermissionDenied", "Http404"),
    *("ValidationError", "add_error"),
}
"""Errors and functions whose sentences pages show."""
MESSAGES = {"success", "info", "warning", "error"}
NOT_SHOWN = {"dashboard/pages/create/form.py:the form is not valid"}


def bare_sentences() -> Iterator[str]:
    """Yield sentences in the code that are shown as they are written, each with its file. The admin is in English."""
    for room in ("accounts", "checkins", "dashboard", "incidents", "monitors"):
        for path in (ROOT / room).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            if "/migrations/" in name or name.startswith("dashboard/admin/"):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and _is_shown(node.func):
                    yield from (f"{name}:{text}" for text in _literals(node))


def _is_shown(called: ast.expr) -> bool:
    if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name) and called.value.id == "messages":
        return called.attr in MESSAGES
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) in SHOWN


def _literals(call: ast.Call) -> Iterator[str]:
    for argument in call.args:
        for value in argument.values if isinstance(argument, ast.Dict) else [argument]:
            text = ast.unparse(value) if isinstance(value, ast.JoinedStr) else getattr(value, "value", "")
            if isinstance(text, str) and " " in text:
                yield text


def test_no_sentence_is_shown_that_nobody_can_translate():
    assert set(bare_sentences()) == NOT_SHOWN


def _refused(call, *arguments):
    def provoke():
        with pytest.raises(Exception) as caught:
            call(*arguments)
        return caught.value

    return provoke


NOW = datetime(2026, 12, 1, tzinfo=UTC)
REFUSED = {
    "a crontab with a field too few": _refused(parse_crontab, "* * * *"),
    "a crontab for seconds": _refused(parse_crontab, "0 0 3 * * *"),
    "a crontab with a strange minute": _refused(parse_crontab, "75 * * * *"),
    "a crontab that never comes": _refused(parse_crontab, "0 0 31 2 *"),
    "a crontab without a time": _refused(
        lambda: refuse_without_time(Schedule.from_crontab("* 2 8-14 3 */7", "America/New_York"), now=NOW)
    ),
    "a nickname": _refused(parse_crontab, "@often"),
    "an interval": _refused(parse_interval, 0, "day"),
    "a unit": _refused(parse_interval, 1, "moon"),
    "a zone": _refused(parse_timezone, "Mars/Olympus"),
    "a limit": _refused(parse_limits, "longer than 0.5x: note"),
    "a line that is no limit": _refused(parse_limits, "soon"),
    "a condition": _refused(parse_lines, "severity is bad"),
    "a line that is no condition": _refused(parse_lines, "everything"),
    "an attribute": _refused(parse_lines, "colour is red"),
    "a step": _refused(read_step_lines, "soon: pager", {"pager": 1}),
    "a step to nobody": _refused(read_step_lines, "5 minutes: pager", {}),
    "steps": _refused(parse_steps, [{"minutes": 0, "channels": [1]}]),
    "quiet hours": lambda: configuring.quiet_problem(time(22), time(22)),
    "an address for mail": lambda: configuring.problems_of("email", {"to": "nobody"})["to"],
    "routes": lambda: Uncaught(7, ("a", "b"), is_complete=False).sentence(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_in_german(name):
    refused = REFUSED[name]()
    assert said(refused) == str(refused), "as in the log, for a reader of English"
    with translation.override("de"):
        assert said(refused) != str(refused)
        assert not {"it", "the", "is", "of", "must"} & set(said(refused).split())


AWAY = Outage(NOW, "Connection refused")
OLD = NOW - timedelta(hours=1)
TICK = TickFacts(OLD, OLD, None, None, deviation_percent=-30.0)
BEHIND = Rows(
    newest=TICK,
    oldest_unfinished=TICK,
    oldest_undecided=TICK,
    clocks=[(number, "missed", OLD - timedelta(hours=number + 1)) for number in range(3)],
    clock_incident=("volume", OLD),
    unsent_count=2,
    oldest_unsent_at=OLD,
    unnotified_count=3,
    given_up_count=1,
    has_routes=True,
    failing_channels=[("pager", "503"), ("chat", "404")],
    unreported_failures=["a", "b"],
    waiting={"failed": 1},
    unjudged=[("backup", "...")],
)
FULL = Intake(True, 7, 10, 10, is_refusing=True, is_silent=True, free_bytes=None, damage=(2, 7))
WRONG = {
    "engines": Facts(NOW, OLD, postgres=AWAY, valkey=AWAY, broker=AWAY, missing_migrations=("a.0001",), intake=FULL),
    "clock": Facts(NOW, OLD, rows=BEHIND, queues={"clock": 4}, uncaught=Uncaught(1, ("a",))),
    "no tick": Facts(
        NOW, OLD, rows=Rows(), why_nobody=Text("Nobody is notified about incidents: ALERT_EMAIL_TO is empty.")
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_watchclock_is_in_german(name):
    status = explain(WRONG[name])
    found = [*status.reasons, *status.besides]
    assert found
    with translation.override("de"):
        for text in (status.headline, *(text for one in found for text in (one.what, one.todo))):
            assert said(text) != text
            assert not {"the", "is", "of", "and"} & set(said(text).split()), said(text)
    assert said(status.headline) == status.headline


def test_names_of_kinds_of_channels_are_in_german_as_far_as_they_are_words():
    assert all(isinstance(name, Text) for name in configuring.KINDS.values())
    with translation.override("de"):
        assert said(configuring.KINDS["webhook"]) == "Signierter Webhook"
        assert said(configuring.KINDS["pagerduty"]) == "PagerDuty"


@pytest.mark.parametrize("kind", SENDERS)
def test_settings_of_channels_are_in_german(kind):
    fields = SENDERS[kind].FIELDS
    assert all(isinstance(text, Text) for field in fields for text in (field.label, field.help) if text)
    problems = SENDERS[kind].problems(dict.fromkeys((field.name for field in fields), "\x07"))
    with translation.override("de"):
        assert all(said(text) != text for text in problems.values())


def test_numbers_in_sentences_are_written_as_in_the_language():
    text = Text("A comment has 1 to %(most)s characters; this one has %(count)s.", most=4_000, count=4_001)
    with translation.override("de"):
        assert said(text) == "Ein Kommentar hat 1 bis 4.000 Zeichen; dieser hat 4.001."
    assert said(ALL_CAUGHT.named()) == ""


@pytest.mark.django_db
def test_a_page_refuses_in_german(as_role, monitor):
    client, project = as_role("owner"), monitor.project.slug
    client.cookies["watchclock_language"] = "de"
    page = words(client.post(f"/projects/{project}/routes/new/", {"name": "r", "conditions": "colour is red"}))
    assert "Attribut von Bedingung 1: 'colour' ist nicht bekannt" in page
    factories.ChannelFactory(project=monitor.project, name="pager")
    page = words(client.post(f"/projects/{project}/channels/new/?kind=webhook", {"name": "pager", "setting_url": "x"}))
    assert "Das ist keine Webadresse" in page

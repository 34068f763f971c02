"""The audit of the drill of the clock notices what it is there for: each row that is lost, doubled, false or wrong."""

import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test import override_settings

from checkins.messages import Source
from checkins.models import CheckIn, ListeningSpan
from checkins.processing.apply import receive
from checkins.protocols.fields import parse_checkin
from clocktasks.dispatch import advance_ledger
from clocktasks.models import ShardClock, Tick
from drills.clock_audit import Silence, audit_clock
from drills.clock_facts import load_facts, read_facts
from drills.jobs import Act, Plan
from drills.load import Kind, Sent, Watched
from incidents.models import Incident, Issue, Notification, Occurrence
from monitors.models import Monitor, MonitorEnvironment
from tests.clocktasks.shards import after, tick_by_tick
from tests.factories import NOW, CheckInFactory, ListeningSpanFactory, ProjectFactory

FIGURES = ("lost", "doubled", "false", "wrong")
PLAN = Plan(slug="job", acts=(Act.OK,), runtime=1)
LAST = 9


@pytest.fixture(scope="class")
def told_once(shared_rows, request):
    with shared_rows.unblock(), override_settings(ALERT_EMAIL_TO=["oncall@watchclock.test"]):
        return tell(deaf=getattr(request, "param", ()))


@pytest.fixture
def told(told_once, db):
    """A job that ran at 10:01, was missed at 10:02 and 10:03, ran at 10:04 and hung at 10:06; judged up to 10:09."""
    return [replace(sent) for sent in told_once]


def tell(deaf=()):
    ListeningSpanFactory()
    for since in deaf:
        ListeningSpan.objects.update(until=after(since))
        ListeningSpanFactory(since=after(since + 1))
    project = ProjectFactory()
    config = {"schedule": {"type": "crontab", "value": "* * * * *"}, "checkin_margin": 1, "max_runtime": 1}
    advance_ledger(NOW, now=NOW)
    first = {"monitor_slug": PLAN.slug, "status": "ok", "monitor_config": config}
    store(project, first, 0.1)
    watched = Watched(*Monitor.objects.values_list("id", "guid", "slug").get())
    sent = []
    for number, (minutes, status) in enumerate([(1.2, "ok"), (4.2, "ok"), (5.2, "ok"), (6.2, "in_progress")]):
        guid = uuid.UUID(int=number + 1, version=4)
        tick_by_tick(after(1), after(int(minutes)))
        store(project, {"monitor_slug": PLAN.slug, "status": status, "check_in_id": str(guid)}, minutes)
        sent.append(Sent(Kind.REST, watched, guid, status, after(minutes - 0.01), after(minutes + 0.01), 1))
    tick_by_tick(after(1), after(LAST))
    Notification.objects.update(addressed_at=after(LAST), sent_at=after(LAST))
    return sent


def store(project, payload, minutes):
    message = parse_checkin(payload, project_id=project.id, received_at=after(minutes), source=Source.REST)
    receive([message], now=after(minutes))


def account_of(sent, plan=PLAN, **options):
    return audit_clock(load_facts(connection.connection), [(plan, sent)], **({"silences": []} | options))


def found(sent, **options):
    account = account_of(sent, **options)
    assert account.is_clean == (account.findings == {})
    return {figure for figure in FIGURES if getattr(account, figure)}


def away(since, until):
    return Silence(after(since), after(since), after(until), after(until))


@pytest.mark.django_db(transaction=True)
def test_what_the_plan_asks_for_is_found_and_nothing_else(settings):
    settings.ALERT_EMAIL_TO = ["oncall@watchclock.test"]
    database = connection.settings_dict
    login = f"{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}"
    sent = tell()
    account = audit_clock(read_facts(f"postgres://{login}/{database['NAME']}"), [(PLAN, sent)], silences=[])
    assert account.is_clean, account.findings
    assert account.found == account.expected > 15
    assert (account.misses, account.timeouts, account.incidents, account.issues) == (4, 1, 2, 1)
    assert (account.occurrences, account.notifications, account.ticks) == (5, 3, LAST + 1)


@pytest.mark.parametrize("told_once", [(2,)], indirect=True)
def test_a_deaf_minute_is_right_only_if_the_web_was_away(told):
    account = account_of(told, silences=[away(2, 3)])
    assert account.is_clean, account.findings
    assert (account.deaf, account.unknown, account.misses) == (1, 1, 3)
    assert found(told) == {"false"}


class TestFindings:
    @pytest.mark.parametrize(
        ("spoil", "figures"),
        [
            (lambda: CheckIn.objects.filter(status="missed").earliest("id").delete(), {"lost", "wrong"}),
            (lambda: CheckIn.objects.filter(status="timeout").update(status="unknown", failed_at=None), {"lost"}),
            (lambda: CheckIn.objects.filter(status="missed").update(received_later_at=after(8)), {"wrong"}),
            (lambda: CheckIn.objects.filter(status="missed").update(failed_at=None), {"lost"}),
            (lambda: Occurrence.objects.earliest("id").delete(), {"lost"}),
            (lambda: Notification.objects.earliest("id").delete(), {"lost"}),
            (lambda: Notification.objects.update(sent_at=None), {"lost"}),
            (lambda: Issue.objects.update(occurrence_count=4), {"wrong"}),
            (lambda: Issue.objects.update(regression_count=0), {"wrong"}),
            (lambda: Incident.objects.update(opened_at=after(2)), {"wrong"}),
            (lambda: MonitorEnvironment.objects.update(status="ok"), {"wrong"}),
            (lambda: Tick.objects.filter(at=after(4)).delete(), {"wrong"}),
            (lambda: Tick.objects.filter(at=after(LAST)).update(finished_at=None), {"wrong"}),
            (lambda: Tick.objects.filter(at=after(3)).update(missed_count=0), {"wrong"}),
            (lambda: ShardClock.objects.filter(shard=3, kind="missed").update(position=after(LAST - 1)), {"wrong"}),
        ],
        ids=[
            "no miss", "no timeout", "at another tick", "not counted", "no occurrence", "nobody told", "not sent",
            "a wrong count", "no regression", "opened at another time", "well with an open incident", "a gap",
            "an unfinished tick", "a wrong number", "a shard behind",
        ],
    )  # fmt: skip
    def test_what_is_not_there_or_not_right_is_noticed(self, told, spoil, figures):
        spoil()
        assert found(told) & figures == figures

    def test_a_miss_of_a_slot_that_was_served_is_false(self, told):
        environment = MonitorEnvironment.objects.get()
        CheckInFactory(monitor_environment=environment, status="missed", source="clock", date_added=after(1))
        assert "false" in found(told)

    def test_a_second_miss_of_a_slot_is_a_double(self, told):
        environment = MonitorEnvironment.objects.get()
        CheckInFactory(monitor_environment=environment, status="missed", source="clock", date_added=after(2))
        assert "doubled" in found(told)

    def test_a_check_in_that_nobody_sent_is_false_and_one_that_was_acknowledged_is_not_lost(self, told):
        assert "false" in found(told[1:])
        gone = Sent(Kind.REST, told[0].monitor, uuid.UUID(int=99, version=4), "ok", after(7), after(7.1), 1)
        assert "lost" in found([*told, gone])

    def test_a_reception_before_it_was_sent_is_wrong(self, told):
        told[0].sent_at = after(1.3)
        assert found(told) == {"wrong"}

    def test_a_minute_that_was_listened_to_is_wrong_if_the_web_was_away(self, told):
        assert found(told, silences=[away(7, 8)]) == {"wrong"}

    def test_around_a_wrong_clock_of_the_web_only_doubles_are_wrong(self, told):
        CheckIn.objects.filter(date_added=after(2)).delete()
        Tick.objects.filter(at=after(3)).update(missed_count=0)
        assert "lost" not in found(told, wrong_times=[(after(1) + timedelta(seconds=30), after(3))])

    @pytest.mark.parametrize(("nodes", "figures"), [(1, {"wrong"}), (2, set())])
    def test_with_several_nodes_a_run_may_be_dated_by_its_end(self, told, nodes, figures):
        end = told[2]
        start = replace(end, status="in_progress", sent_at=after(5.1), answered_at=after(5.12))
        assert found([*told[:2], start, *told[2:]], nodes=nodes) == figures

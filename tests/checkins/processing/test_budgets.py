"""What an ingest key may cause (D38): budgets that honest projects do not meet, and what one gets beyond them."""

import json
from datetime import timedelta

import pytest
from django.conf import settings as project_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from checkins import metrics
from checkins.messages import LossReport, RunLog, Source
from checkins.models import CheckIn, CheckInLog, ClientLossReport, KeyUse, ProcessingError, WaitingCheckIn
from checkins.processing.apply import receive
from checkins.processing.batch import take
from checkins.processing.budgets import Account as Paying
from checkins.processing.budgets import Budget, charge, prune_key_uses, room
from checkins.processing.problems import PAYLOAD_BYTES_MAX, shortened
from checkins.protocols.fields import parse_checkin
from checkins.protocols.request import IngestRequest
from monitors.models import Monitor, MonitorEnvironment
from tests import factories
from tests.factories import NOW
from tests.messages import make_config, make_message

pytestmark = pytest.mark.django_db

KEY, OTHER = 7, 8
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def project():
    return factories.ProjectFactory()


def message(project, slug, *, key=KEY, at=NOW, **fields):
    return make_message(
        fields.pop("status", "ok"), at=at, project_id=project.id, slug=slug, raw_slug=slug, key_id=key, **fields
    )


def new(project, *slugs, **fields):
    return [message(project, slug, config=make_config(), **fields) for slug in slugs]


def errors(kind="KEY_BUDGET_EXCEEDED"):
    rows = ProcessingError.objects.filter(kind=kind).order_by("field")
    return {row.field: (row.count, row.value) for row in rows}


# --- New monitors and environments ------------------------------------------------------------------------------------


def test_d38_a_key_creates_so_many_monitors_an_hour_and_each_refusal_counts(settings, project):
    settings.KEY_MONITORS_PER_HOUR = 3
    receive(new(project, "a", "b"), now=NOW)
    receive(new(project, "c", "d", "e"), now=NOW)
    receive(new(project, "f"), now=NOW)
    assert set(Monitor.objects.values_list("slug", flat=True)) == {"a", "b", "c"}
    assert errors() == {"monitors": (3, "d")}


def test_d38_the_next_hour_is_a_new_one(settings, project):
    settings.KEY_MONITORS_PER_HOUR = 1
    receive(new(project, "a"), now=NOW)
    receive(new(project, "b", at=NOW + HOUR), now=NOW + HOUR)
    assert Monitor.objects.count() == 2


def test_d38_other_keys_and_monitors_that_exist_notice_nothing(settings, project):
    settings.KEY_MONITORS_PER_HOUR = 1
    receive(new(project, "a", "b"), now=NOW)
    [exists, other] = receive([message(project, "a"), *new(project, "c", key=OTHER)], now=NOW)
    assert (exists.accepted, other.accepted, exists.problems, other.problems) == (True, True, [], [])


def test_d38_a_key_creates_so_many_environments_an_hour(settings, project):
    settings.KEY_ENVIRONMENTS_PER_HOUR = 2
    receive(new(project, "a"), now=NOW)
    outcomes = receive([message(project, "a", environment=name) for name in ("dev", "qa", "qa")], now=NOW)
    assert [outcome.accepted for outcome in outcomes] == [True, False, False]
    assert MonitorEnvironment.objects.count() == 2
    assert errors() == {"environments": (2, "qa")}
    assert receive([message(project, "a")], now=NOW)[0].accepted


def test_d38_four_hosts_that_register_a_thousand_jobs_each_are_honest():
    assert project_settings.KEY_MONITORS_PER_HOUR >= 4_000
    assert project_settings.KEY_ENVIRONMENTS_PER_HOUR >= 4_000
    assert project_settings.KEY_PARKED_PER_HOUR >= 4_000
    assert project_settings.MONITORS_PER_PROJECT > project_settings.KEY_MONITORS_PER_HOUR, "the project's stays above"


# --- What waits, what is refused, what is printed ---------------------------------------------------------------------


def test_d38_so_many_check_ins_of_a_key_wait_for_their_monitor(settings, project):
    settings.KEY_PARKED_PER_HOUR = 2
    outcomes = receive([message(project, "x", source=Source.SENTRY_ENVELOPE) for _ in range(5)], now=NOW)
    assert [outcome.parked for outcome in outcomes] == [True, True, False, False, False]
    assert WaitingCheckIn.objects.count() == 2
    assert errors() == {"parked_check_ins": (3, "x")}


def test_d38_a_parked_check_in_costs_kilobytes(project):
    big = {"monitor_slug": "x", "status": "ok", "junk": "j" * 100_000}
    receive([message(project, "x", source=Source.SENTRY_ENVELOPE, payload=big)], now=NOW)
    assert len(json.dumps(WaitingCheckIn.objects.get().message)) < 2 * PAYLOAD_BYTES_MAX


def test_d38_a_key_has_so_many_bytes_of_logs_a_day_and_its_runs_count_in_any_case(settings, project):
    settings.KEY_LOG_BYTES_PER_DAY = 100
    receive(new(project, "a"), now=NOW)
    for minute in range(1, 4):
        log = RunLog(b"x" * 60, 60)
        at = NOW + timedelta(minutes=minute)
        assert receive([message(project, "a", log=log, at=at)], now=at)[0].accepted
    assert (CheckIn.objects.count(), CheckInLog.objects.count()) == (4, 2)
    assert errors() == {"log_bytes": (1, "a")}


def test_d38_refusals_beyond_the_day_are_counted_in_one_row_an_hour(settings, project):
    settings.KEY_REFUSALS_PER_DAY = 2
    for minute in range(5):
        at = NOW + timedelta(minutes=minute)
        receive([message(project, "unknown", source=Source.REST, at=at)], now=at)
    assert ProcessingError.objects.filter(kind="MONITOR_NOT_FOUND").count() == 2
    assert errors() == {"refusals": (3, "MONITOR_NOT_FOUND")}


def test_d38_an_error_that_is_there_already_costs_nothing_more(settings, project):
    settings.KEY_REFUSALS_PER_DAY = 2
    for _ in range(5):
        receive([message(project, "unknown", source=Source.REST)], now=NOW)
    assert [row.count for row in ProcessingError.objects.all()] == [5]
    assert KeyUse.objects.get(budget="refusals").used == 1


def test_d38_loss_reports_are_within_the_same_budget(settings, project):
    settings.KEY_REFUSALS_PER_DAY = 3
    report = LossReport(
        project_id=project.id, reason="network_error", quantity=1, reported_at=None, received_at=NOW,
        source=Source.SENTRY_ENVELOPE, key_id=KEY,
    )  # fmt: skip
    receive([report] * 2, now=NOW)
    receive([report] * 2, now=NOW)
    assert ClientLossReport.objects.count() == 3


@pytest.mark.parametrize("known", [False, True], ids=["slugs that no monitor has", "monitors"])
def test_d38_many_refused_check_ins_of_a_hundred_kilobytes_cost_kilobytes(project, known):
    slugs = [f"job-{n}" for n in range(195)]
    if known:
        for slug in slugs:
            factories.MonitorFactory(project=project, slug=slug, status="disabled")
    for _ in range(5):
        parsed = [
            parse_checkin(
                {"monitor_slug": slug, "status": "ok" if known else "finished", "junk": "j" * 100_000},
                project_id=project.id, received_at=NOW, source=Source.REST,
            )
            for slug in slugs
        ]  # fmt: skip
        receive(parsed, now=NOW)
    assert sum(ProcessingError.objects.values_list("count", flat=True)) == 975
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(octet_length(payload::text)) FROM checkins_processingerror")
        assert cursor.fetchone()[0] < 100_000


def test_d38_what_nobody_pays_for_has_no_budget(settings, project):
    settings.KEY_MONITORS_PER_HOUR = 1
    receive(new(project, "a", "b", key=None), now=NOW)
    assert (Monitor.objects.count(), KeyUse.objects.count()) == (2, 0)


# --- Payloads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        {"junk": "j" * 100_000},
        {f"field-{n}": "j" * 150 for n in range(1_000)},
        {"monitor_slug": "a", "deep": [[["j"] * 10_000]], "status": "ok"},
        {"n" * 100_000: 1},
        {"raw": "\u00e9" * 50_000},
    ],
)
def test_d38_a_payload_is_cut_to_its_beginnings(payload):
    cut = shortened(payload)
    assert len(json.dumps(cut, ensure_ascii=False).encode()) <= PAYLOAD_BYTES_MAX * 1.2
    assert "bytes were sent" in str(cut["shortened"])
    assert all(cut[name] == payload[name] for name in cut if name in ("monitor_slug", "status"))


def test_d38_a_usual_payload_stays_as_it_is():
    payload = {"monitor_slug": "a", "status": "ok", "contexts": {"trace": {}}}
    assert shortened(payload) is payload


# --- Counting ---------------------------------------------------------------------------------------------------------


def test_d38_who_sent_it_is_the_key_of_the_request(project):
    key = factories.IngestKeyFactory(project=project)
    config = {"schedule": {"type": "crontab", "value": "0 * * * *"}}
    body = json.dumps([{"monitor": "a", "status": "ok", "monitor_config": config}])
    request = IngestRequest(
        method="POST", path="/api/v1/checkins", query="", headers={"authorization": f"Bearer {key.public_key}"},
        body=body.encode(), body_bytes=len(body), received_at=NOW,
    )  # fmt: skip
    take([request], now=NOW)
    assert set(KeyUse.objects.values_list("key_id", "budget", "used")) == {
        (key.id, "monitors", 1),
        (key.id, "environments", 1),
    }


def test_d38_a_batch_without_anything_new_asks_for_no_budget(project):
    receive(new(project, "a"), now=NOW)
    with CaptureQueriesContext(connection) as queries:
        receive([message(project, "a")], now=NOW)
    assert not [query for query in queries if "checkins_keyuse" in query["sql"]]


def test_d38_stripes_are_summed_up(settings):
    settings.KEY_LOG_BYTES_PER_DAY = 100
    paying, day = Paying(1, KEY, Budget.LOG_BYTES), NOW.replace(hour=0)
    for stripe in (17, 18):
        factories.KeyUseFactory(project_id=1, key_id=KEY, budget="log_bytes", since=day, stripe=stripe, used=20)
    charge({paying: 30}, now=NOW)
    assert room([paying], now=NOW) == {paying: 30}


def test_d38_what_keys_used_is_forgotten_after_two_days():
    factories.KeyUseFactory(since=NOW)
    assert prune_key_uses(now=NOW + 2 * DAY) == 0
    assert prune_key_uses(now=NOW + 2 * DAY + HOUR) == 1


def test_d38_refusals_are_a_metric(settings, project, django_capture_on_commit_callbacks):
    settings.KEY_MONITORS_PER_HOUR = 1
    counter = metrics.budget_refused.labels("monitors")
    before = counter._value.get()
    with django_capture_on_commit_callbacks(execute=True):
        receive(new(project, "a", "b", "c"), now=NOW)
    assert counter._value.get() - before == 2

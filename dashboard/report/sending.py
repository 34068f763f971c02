"""Writing weekly reports into the outbox (shell).

A sweep looks which are due, so none is lost while nothing runs; then the newest week is reported, once. The row of the
plan is locked until its messages are written and its day is stored, in one transaction.
"""

import uuid
from datetime import datetime

from django.db import transaction

from dashboard.report.reading import read_facts
from dashboard.report.weeks import Plan, due_week, newest_week
from dashboard.report.words import write_report
from incidents.models import Channel, Message, Unsubscription, WeeklyReport
from incidents.models.channels import EMAIL
from incidents.notifications.outbox import NewMessage, insert_messages, text_key
from incidents.notifications.routes import recipients_of
from incidents.notifications.routing import Recipient
from incidents.notifications.unsubscribe_links import unsubscribe_link
from incidents.notifications.wake import wake_after_commit
from lib.encoding import to_json

REPORTS_MAX = 100
"""Reports that one run writes; the next one goes on."""
REPORTS = Unsubscription.Topic.REPORTS.value
KIND = Message.Kind.REPORT.value


def send_due_reports(*, now: datetime) -> int:
    """Write the reports that are due; returns how many."""
    enabled = WeeklyReport.objects.filter(is_enabled=True).order_by("id")
    plans = [(report.pk, plan_of(report)) for report in enabled.iterator()]
    due = [pk for pk, plan in plans if due_week(plan, now=now)][:REPORTS_MAX]
    return sum(_send_due(pk, now=now) for pk in due)


def plan_of(report: WeeklyReport) -> Plan:
    """Return a stored plan as a value."""
    return Plan(report.weekday, report.hour, report.timezone, report.last_day)


def plan_from(report: WeeklyReport, *, now: datetime) -> None:
    """Let a new or changed plan begin with its next week: weeks that are due already are not reported any more."""
    day = newest_week(plan_of(report), now=now).day
    report.last_day = day if report.last_day is None else max(day, report.last_day)


def report_now(report: WeeklyReport, *, now: datetime) -> int:
    """Write a report about the newest week, besides those that are due; returns to how many addresses."""
    return _write(report, f"by hand {now.isoformat()}", now=now)


@transaction.atomic
def _send_due(pk: int, *, now: datetime) -> bool:
    held = WeeklyReport.objects.select_for_update(skip_locked=True, no_key=True, of=("self",))
    report = held.select_related("project", "channel").filter(pk=pk, is_enabled=True).first()
    week = None if report is None else due_week(plan_of(report), now=now)
    if report is None or week is None or not _write(report, week.day.isoformat(), now=now):
        return False
    report.last_day = week.day
    report.save(update_fields=["last_day"])
    return True


def _write(report: WeeklyReport, name: str, *, now: datetime) -> int:
    addresses = _addresses(report.channel)
    if not addresses:
        return 0
    week = newest_week(plan_of(report), now=now)
    facts = read_facts(report.project, week, timezone=report.timezone, now=now)
    language = report.channel.language
    messages = []
    for address in addresses:
        link = unsubscribe_link(report.channel, address, REPORTS)
        content = write_report(facts, unsubscribe_url=link, language=language)
        body = to_json(content).decode()
        recipient = Recipient(address, report.channel_id, "weekly report")
        messages.append(NewMessage(None, KIND, recipient, _key(report, name, address), content.headline, body))
    insert_messages(messages, now=now)
    wake_after_commit()
    return len(messages)


def _addresses(channel: Channel) -> tuple[str, ...]:
    if channel.kind != EMAIL or not channel.is_enabled or channel.removed_at is not None:
        return ()
    return recipients_of(channel, REPORTS)


def _key(report: WeeklyReport, name: str, address: str) -> uuid.UUID:
    return text_key(f"weekly report {report.project_id} {name}", KIND, address)

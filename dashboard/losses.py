"""Clients' own reports of lost check-ins, shown beside the misses and timeouts that they may explain (D19).

A report names neither job nor time: it counts the messages that a process failed to deliver, and comes with its next
delivered message. So it is evidence, and changes nothing.
"""

import operator
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import reduce
from typing import Any

from django.db.models import Q
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from checkins.models import ClientLossReport
from dashboard.admin.cells import instant, link

NEAR = timedelta(hours=1)
"""SDKs send a report with their next message: for an hourly job, an hour later."""
REPORTS_SHOWN = 20
SILENT = ("missed", "timeout")
"""Failures that a lost message may cause. An error was received."""


def losses_around(project_id: int, failures: Iterable[tuple[datetime, datetime]]) -> list[Any]:
    """Return the project's loss reports from an hour before one of these failures to an hour after it, newest first.

    A failure is given by the start of its run or slot, and by its detection. One statement, none without failures.
    Index: loss_report_history.
    """
    near = [Q(received_at__gte=began - NEAR, received_at__lte=found + NEAR) for began, found in failures]
    if not near:
        return []
    reports = ClientLossReport.objects
    found = reports.filter(reduce(operator.or_, near), project=project_id)
    return list(found.order_by("-received_at", "-id")[:REPORTS_SHOWN])


def losses_beside(checkins: Iterable[Any], project_id: int) -> list[Any]:
    """Return the loss reports around misses and timeouts among the check-ins. One statement at most."""
    silent = [checkin for checkin in checkins if checkin.status in SILENT]
    return losses_around(project_id, [(row.date_added, row.failed_at or row.date_updated) for row in silent])


def losses_text(reports: Sequence[Any], *, timezone: str) -> SafeString:
    """Return a sentence for each report, with a link to it; empty if there are none."""
    if not reports:
        return SafeString()
    sentences = format_html_join(
        "",
        "<li>This project's SDK reports that it lost {} ({}), received {}.</li>",
        (
            (
                link(report, "1 check-in" if report.quantity == 1 else f"{report.quantity} check-ins"),
                report.reason,
                instant(report.received_at, timezone),
            )
            for report in reports
        ),
    )
    return format_html("<ul>{}</ul>", sentences)

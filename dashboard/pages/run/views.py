"""The page of a run: what the job reported, when, and what it printed."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from checkins.models import Attempt, CheckIn
from dashboard.pages.access import find_monitor, page, rights_in, sees_log
from dashboard.pages.monitor.facts import describe_run
from dashboard.runs import logs_of, why_not_judged
from dashboard.vocabulary import setting
from lib.wallclock import utcnow

ATTEMPTS_SHOWN = 50


@page
def run(request: HttpRequest, project: str, slug: str, pk: int) -> HttpResponse:
    """Show a run of a monitor."""
    monitor = find_monitor(request, project, slug)
    checkins = CheckIn.objects.filter(pk=pk, monitor_environment__monitor=monitor)
    checkin = checkins.select_related("monitor_environment__environment", "config").first()
    if checkin is None:
        raise Http404(_("There is no such run; it may have been removed after its time."))
    rights = rights_in(request, monitor.project_id)
    may_see_log = sees_log(monitor, rights)
    context = {
        "now": utcnow(),
        "monitor": monitor,
        "environment": checkin.monitor_environment,
        "why_not_judged": why_not_judged(checkin),
        "run": describe_run(checkin),
        "attempts": list(Attempt.objects.filter(checkin=checkin.pk).order_by("id")[:ATTEMPTS_SHOWN]),
        "sees_log": may_see_log,
        "logs": logs_of(checkin) if may_see_log else [],
        "config": {name: setting(value) for name, value in checkin.config.columns().items()},
    }
    return render(request, "pages/run.html", context)

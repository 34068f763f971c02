"""The ping address of a monitor: replace it, with an overlap in which the old one works too."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts.roles import Action
from dashboard.addresses import address_of, base_url
from dashboard.pages.access import find_monitor, form, rights_in
from dashboard.pages.buttons import actor_of
from dashboard.pages.overlap import OverlapForm
from dashboard.texts import said
from lib.wallclock import utcnow
from monitors.addresses import RotationError, end_former_addresses, note_address_shown, replace_address


@form
def ping_address(request: HttpRequest, project: str, slug: str) -> HttpResponse:
    """Show the address and the former ones that still work; replace it, or end these."""
    now = utcnow()
    row = find_monitor(request, project, slug)
    rights_in(request, row.project_id).demand(Action.EDIT_MONITORS)
    by = actor_of(request, at=now)
    typed = OverlapForm(request.POST if request.POST.get("do") == "replace" else None, now=now)
    if request.POST.get("do") == "end":
        if end_former_addresses(row.pk, by=by):
            messages.success(request, _("Only the present address works now."))
        return redirect("ping-address", project, slug)
    if typed.is_valid():
        try:
            replace_address(row.pk, typed.cleaned_data["ends_at"], by=by)
        except RotationError as error:
            typed.add_error("ends_at", said(error))
        else:
            messages.success(request, _("The monitor has a new address. The old one works until then, too."))
            return redirect("ping-address", project, slug)
    note_address_shown(row, by=by)
    context = {
        "now": now,
        "monitor": row,
        "ping_url": address_of(row, base_url(request), key=None).ping_url,
        "former": row.former_addresses.filter(ends_at__gt=now).order_by("ends_at"),
        "overlap": typed,
    }
    return render(request, "pages/ping_address.html", context, status=422 if typed.errors else 200)

"""The base of all admin pages: read-only pages, large lists, and permissions.

The admin is for inspecting. People with the view permission can view rows that jobs and the clock write; nobody can
edit them; changes go through the services. Lists stay fast with a million rows: no exact counts of large tables, no
joins of rows that are not on the page.
"""

import json
from typing import Any, cast

from django.contrib.admin import ShowFacets
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from dashboard.admin.cells import ADDRESS, NOTHING
from dashboard.admin.unfold import ModelAdmin
from lib.durations import duration as duration

EXACT_COUNT_MAX = 10_000
"""Up to this many rows are counted (about 2 ms); beyond it the planner's estimate is shown."""


class EstimatedCountPaginator(Paginator):  # type: ignore[type-arg]  # generic in its stubs only
    """Pages of a list that may have millions of rows.

    Up to `EXACT_COUNT_MAX` rows are counted; beyond that the planner's estimate is used, which reads no rows and is off
    by a few per cent. The rows of a page are found by their keys first, so that a deep page joins only its own rows.
    """

    @cached_property
    def count(self) -> int:
        """Number of rows, exact up to `EXACT_COUNT_MAX`."""
        rows = cast("QuerySet[Any]", self.object_list).order_by().values("pk")
        counted = rows[: EXACT_COUNT_MAX + 1].count()
        if counted <= EXACT_COUNT_MAX:
            return counted
        plan = json.loads(rows.explain(format="json"))
        return max(counted, int(plan[0]["Plan"]["Plan Rows"]))

    def page(self, number: int | str) -> "Page[Any]":
        """Return one page; its rows are fetched by key."""
        page = super().page(number)
        keys = list(cast("QuerySet[Any]", page.object_list).values_list("pk", flat=True))
        page.object_list = cast("QuerySet[Any]", self.object_list).filter(pk__in=keys)
        return page


class InspectionAdmin(ModelAdmin):
    """Pages that people with the view permission of the model may view and nobody may edit.

    Actions ask for the change permission.
    """

    paginator = EstimatedCountPaginator
    show_full_result_count = False
    show_facets = ShowFacets.NEVER  # Facets count every filter value over the whole table.
    list_per_page = 50
    list_max_show_all = 0
    list_filter_submit = True
    compressed_fields = True
    empty_value_display = NOTHING

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Jobs and the clock write these rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody edits history."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Nobody edits history."""
        return False

    def has_handle_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Return whether the user may run the actions of this model (mute, resolve, archive)."""
        return request.user.has_perm(f"{self.opts.app_label}.change_{self.opts.model_name}")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Refuse an action that the user may not run, instead of ignoring it and showing the list."""
        wanted = request.POST.get("action")
        if request.method == "POST" and wanted and wanted not in self.get_actions(request):
            raise PermissionDenied
        return super().changelist_view(request, extra_context)

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Any = None,
    ) -> HttpResponse:
        """Add what the template of a row's page shows around the form."""
        if obj is not None:
            context |= self.surroundings(request, obj)
        if not self.has_change_permission(request, obj):
            context["show_history"] = False  # Nobody edits the row, so it has no history.
        return super().render_change_form(request, context, add, change, form_url, obj)

    def surroundings(self, request: HttpRequest, row: Any) -> dict[str, Any]:
        """Return what the page of `row` shows beside its fields, as template variables."""
        return {}


def may_view(request: HttpRequest, model: str) -> bool:
    """Return whether the user may view rows of a model ("checkins.checkin")."""
    app, _, name = model.partition(".")
    return any(request.user.has_perm(f"{app}.{right}_{name}") for right in ("view", "change"))


def without_addresses(shown: SafeString) -> SafeString:
    """Return content from a client without keys and ping addresses: with these, anybody can send.

    >>> without_addresses(SafeString("/ping/c0ffee00-1234-4321-8765-0123456789ab/start"))
    '/ping/…/start'
    """
    return SafeString(ADDRESS.sub("…", shown))

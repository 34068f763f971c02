"""Pages of channels: where people are notified."""

import time
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, instant, label
from dashboard.admin.editing import EditAdmin
from dashboard.admin.forecasts import warn_of_uncaught
from dashboard.admin.permissions import GrantedPermissions
from dashboard.admin.recording import actor_of
from dashboard.admin.unfold import AutocompleteSelectFilter, UnfoldAdminTextInputWidget
from dashboard.channel_form import PREFIX, channel_form, store_channel
from incidents.handling.calling_back import describe_way_back
from incidents.models import Channel, Message
from incidents.models.channels import EMAIL
from incidents.notifications import configuring
from incidents.notifications.unsubscribing import subscribe_again
from lib.wallclock import utcnow

TEST_SECONDS_MAX = 20.0
"""How long the page waits for the receiver's answer to a test."""
_POLL_SECONDS = 0.2


class KindForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs only
    """The first step of a new channel: what it is. Its settings depend on that."""

    kind = forms.ChoiceField(choices=list(configuring.KINDS.items()))

    class Meta:
        model = Channel
        fields = ["kind"]


@admin.register(Channel)
class ChannelAdmin(EditAdmin, GrantedPermissions, InspectionAdmin):
    """Channels: their settings, their state, and a test that shows what the receiver answers."""

    list_display = ("name", "project", "kind_label", "state_label", "delivered", "waiting_count")
    list_filter = (("project", AutocompleteSelectFilter),)
    search_fields = ("name",)
    list_select_related = ("project",)
    autocomplete_fields = ("project",)
    ordering = ("name",)
    actions = ("send_test", "subscribe_again", "remove")
    readonly_fields = ("unsubscribed", "way_back")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """Warn of monitors that nobody would be notified of."""
        warn_of_uncaught(request)
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        """Channels that were not removed."""
        rows: QuerySet[Channel] = super().get_queryset(request).filter(removed_at__isnull=True)
        return rows

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """As granted to the user; personal channels follow the preferences of their people."""
        is_personal = obj is not None and obj.is_personal
        return not is_personal and bool(super().has_change_permission(request, obj))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form for the kind of the channel; for a new one its kind is asked first."""
        kind = obj.kind if obj is not None else request.GET.get("kind", "")
        if kind not in configuring.KINDS:
            return KindForm
        stored = configuring.stored_secrets(obj) if obj is not None else {}
        return channel_form(kind, stored, text_input=UnfoldAdminTextInputWidget)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields of its form."""
        form = self.get_form(request, obj)
        fields = [*getattr(form.Meta, "fields", ()), *(name for name in form.base_fields if name.startswith(PREFIX))]
        if obj is None:
            return fields
        return [*fields, "unsubscribed"] if obj.kind == EMAIL else [*fields, "way_back"]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Ask for the kind, then for the settings of that kind."""
        if request.method == "POST" and request.GET.get("kind") not in configuring.KINDS:
            return HttpResponseRedirect(f"?{urlencode({'kind': request.POST.get('kind', '')})}")
        response: HttpResponse = super().add_view(request, form_url, extra_context)
        return response

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store the channel with its settings."""
        store_channel(form, is_new=not change, by=actor_of(request, at=utcnow()))

    @admin.display(description="Unsubscribed")
    def unsubscribed(self, channel: Channel) -> str:
        """Show the addresses that get no more mails, as their owners have asked with the link in a mail."""
        found = channel.unsubscriptions.order_by("address", "topic")
        parts = (
            f"{one.address} ({one.get_topic_display()}, {one.unsubscribed_at:%Y-%m-%d %H:%M} UTC)" for one in found
        )
        return ", ".join(parts) or NOTHING

    @admin.display(description="Acknowledgements")
    def way_back(self, channel: Channel) -> str:
        """Show whether acknowledgements in the service come back."""
        return describe_way_back(channel)

    @admin.display(description="Kind", ordering="kind")
    def kind_label(self, channel: Channel) -> str:
        """Show the service."""
        return configuring.KINDS.get(channel.kind, channel.kind)

    @admin.display(description="State")
    def state_label(self, channel: Channel) -> SafeString:
        """Show whether its messages get through."""
        if not channel.is_enabled:
            return label("disabled")
        if channel.open_since is not None:
            return label("fails", "bad", title=channel.last_error)
        if channel.failure_count:
            return label("doubtful", "doubtful", title=channel.last_error)
        return label("works", "good") if channel.delivered_at else label("not tried yet")

    @admin.display(description="Last delivered")
    def delivered(self, channel: Channel) -> SafeString:
        """Show the instant in UTC."""
        return instant(channel.delivered_at)

    @admin.display(description="Waiting")
    def waiting_count(self, channel: Channel) -> str:
        """Show how many messages wait, at most a thousand."""
        waiting = Message.objects.filter(channel=channel, status=Message.Status.WAITING)[:1_000].count()
        return str(waiting) if waiting < 1_000 else "1,000 or more"

    @admin.action(description="Send a test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        """Send a test through the selected channels and show the answers."""
        now = utcnow()
        by = actor_of(request, at=now)
        tests = [
            test
            for channel in queryset[: configuring.CHANNELS_MAX]
            for test in configuring.send_test(channel, now=now, by=by)
        ]
        until = time.monotonic() + TEST_SECONDS_MAX
        wanted = [test.pk for test in tests]
        while True:
            found = list(Message.objects.filter(pk__any_of=wanted).select_related("channel").order_by("pk"))
            if all(map(_is_answered, found)) or time.monotonic() > until:
                break
            time.sleep(_POLL_SECONDS)
        for test in found:
            _show_answer(request, test)

    @admin.action(description="Subscribe all addresses again", permissions=["change"])
    def subscribe_again(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        """Let addresses of the selected channels that unsubscribed get mails again."""
        count = subscribe_again(list(queryset), by=actor_of(request, at=utcnow()))
        messages.success(request, f"Subscribed {count} address{'' if count == 1 else 'es'} again.")

    @admin.action(description="Remove", permissions=["change"])
    def remove(self, request: HttpRequest, queryset: QuerySet[Channel]) -> None:
        """Remove the selected channels from their routes."""
        now, channels = utcnow(), list(queryset)
        with transaction.atomic():
            for channel in channels:
                configuring.remove_channel(channel, now=now, by=actor_of(request, at=now))
        messages.success(request, f"Removed {len(channels)} channel{'' if len(channels) == 1 else 's'}.")


def _is_answered(test: Message) -> bool:
    return test.status != Message.Status.WAITING or bool(test.last_error)


def _show_answer(request: HttpRequest, test: Message) -> None:
    name = f"{test.channel} ({test.recipient})" if test.is_mail else str(test.channel)
    if test.status == Message.Status.SENT:
        messages.success(request, f"{name}: accepted. {test.answer}".rstrip())
    elif test.last_error:
        messages.error(request, f"{name}: not accepted. {test.last_error}")
    else:
        messages.warning(
            request,
            f"{name}: no answer within {TEST_SECONDS_MAX:g} seconds. Does the worker of the queue delivery run? "
            "The result will be under Messages.",
        )

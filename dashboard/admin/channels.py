"""Pages of channels: where people are notified."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from audit.entries import CHANGED, difference
from audit.recording import record
from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, instant, label
from dashboard.admin.editing import EditAdmin, EditForm
from dashboard.admin.permissions import GrantedPermissions
from dashboard.admin.recording import actor_of, row_entry
from dashboard.admin.unfold import AutocompleteSelectFilter, UnfoldAdminTextInputWidget
from incidents.handling.calling_back import describe_way_back
from incidents.models import Channel, Message
from incidents.models.channels import EMAIL
from incidents.notifications import configuring
from incidents.notifications.channels.base import Field
from incidents.notifications.unsubscribing import subscribe_again
from incidents.notifications.words import ENGLISH, LANGUAGES
from lib.wallclock import utcnow

TEST_SECONDS_MAX = 20.0
"""How long the page waits for the receiver's answer to a test."""
_POLL_SECONDS = 0.2
_PREFIX = "setting_"
_SET = "Stored. Leave it empty to keep it."


class KindForm(forms.ModelForm):  # type: ignore[type-arg]  # generic in its stubs only
    """The first step of a new channel: what it is. Its settings depend on that."""

    kind = forms.ChoiceField(choices=list(configuring.KINDS.items()))

    class Meta:
        model = Channel
        fields = ["kind"]


class ChannelForm(EditForm):
    """A channel with its settings. A stored secret is never shown; an empty field keeps it."""

    kind_of_channel = ""
    # In another project it would be told of the incidents of its former one.
    fixed = ("project",)

    language = forms.ChoiceField(choices=list(LANGUAGES.items()), required=False, help_text="Of its messages.")

    class Meta:
        model = Channel
        fields = ["project", "name", "timezone", "language", "is_enabled", "folds", "quiet_from", "quiet_until"]
        labels = {"folds": "One message for many openings at once"}
        help_texts = {
            "project": "Empty: a channel of the instance, which is told of incidents of the clock itself.",
            "timezone": "The zone of the times in its messages, and of its quiet hours.",
            "folds": "Off: a message for each incident, however many there are.",
            "quiet_from": "From here to the next, daily, only what is critical is told; the rest at the end, together.",
            "quiet_until": "Both are whole minutes, or both are empty. May be earlier than the other: on the next day.",
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = getattr(kwargs.get("instance"), "values", None) or {}
        kwargs["initial"] = {f"{_PREFIX}{name}": text for name, text in values.items()} | (kwargs.get("initial") or {})
        super().__init__(*args, **kwargs)
        self.instance.kind = self.instance.kind or self.kind_of_channel

    def clean_language(self) -> str:
        """Return the language; English if none was sent."""
        return self.cleaned_data["language"] or ENGLISH

    def settings(self) -> dict[str, str]:
        """Return the settings as they shall be, without secrets that were left empty."""
        fields = configuring.fields_of(self.instance.kind)
        found = {}
        for field in fields:
            typed = self.cleaned_data.get(f"{_PREFIX}{field.name}")
            kept = "" if field.is_secret else str(self.instance.values.get(field.name, ""))
            found[field.name] = kept if typed is None else str(typed)
        return found

    def clean(self) -> dict[str, Any]:
        """Check the settings as their service wants them, and the quiet hours."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "quiet_from" in cleaned and "quiet_until" in cleaned:
            problem = configuring.quiet_problem(cleaned["quiet_from"], cleaned["quiet_until"])
            if problem:
                self.add_error("quiet_until", problem)
        kept = configuring.stored_secrets(self.instance)
        merged = {name: text or kept.get(name, "") for name, text in self.settings().items()}
        problems = configuring.problems_of(self.instance.kind, {name: text for name, text in merged.items() if text})
        for name, sentence in problems.items():
            self.add_error(f"{_PREFIX}{name}" if f"{_PREFIX}{name}" in self.fields else None, sentence)
        return cleaned


def form_for(kind: str, stored: Mapping[str, str]) -> type[ChannelForm]:
    """Return the form of a kind of channel. `stored` are the secrets that it has."""
    fields = {
        f"{_PREFIX}{field.name}": _form_field(field, is_stored=field.name in stored)
        for field in configuring.fields_of(kind)
    }
    return type("ChannelForm", (ChannelForm,), {**fields, "kind_of_channel": kind})


def _form_field(field: Field, *, is_stored: bool) -> forms.Field:
    hint = _SET if field.is_secret and is_stored else field.help
    common: dict[str, Any] = {"label": field.label, "help_text": hint, "required": False}
    if field.choices:
        return forms.ChoiceField(choices=[("", "—"), *((choice, choice) for choice in field.choices)], **common)
    attributes = {"autocomplete": "off", "spellcheck": "false"}
    if field.is_secret:
        return forms.CharField(widget=forms.PasswordInput(attributes, render_value=False), **common)
    return forms.CharField(widget=UnfoldAdminTextInputWidget(attrs=attributes), **common)


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

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        """Channels that were not removed."""
        rows: QuerySet[Channel] = super().get_queryset(request).filter(removed_at__isnull=True)
        return rows

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form for the kind of the channel; for a new one its kind is asked first."""
        kind = obj.kind if obj is not None else request.GET.get("kind", "")
        if kind not in configuring.KINDS:
            return KindForm
        return form_for(kind, configuring.stored_secrets(obj) if obj is not None else {})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields of its form."""
        form = self.get_form(request, obj)
        fields = [*getattr(form.Meta, "fields", ()), *(name for name in form.base_fields if name.startswith(_PREFIX))]
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
        now, stored = utcnow(), dict(obj.values)
        configuring.save_channel(obj, form.settings(), now=now)
        given = {name: form.cleaned_data.get(name) for name in form.changed_data}
        changes = dict(difference(form.initial, given))
        changes |= difference(stored, obj.values)
        secrets = {f"{_PREFIX}{field.name}" for field in configuring.fields_of(obj.kind) if field.is_secret}
        settings = {name for name in changes if name.startswith(_PREFIX)} - secrets
        entry = row_entry(
            obj, CHANGED if change else "created", {k: v for k, v in changes.items() if k not in settings}
        )
        record([replace(entry, secret={*entry.secret, *secrets})], by=actor_of(request, at=now))

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
        tests = [
            test for channel in queryset[: configuring.CHANNELS_MAX] for test in configuring.send_test(channel, now=now)
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
                configuring.remove_channel(channel, now=now)
            record([row_entry(channel, "removed") for channel in channels], by=actor_of(request, at=now))
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

"""The form of a channel, for its page and for the admin. A stored secret is never shown; an empty field keeps it.

One that the channel works without has a box beside it that removes it.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from django import forms
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from audit.entries import CHANGED, Actor, difference
from audit.recording import record
from dashboard.editing import EditForm
from dashboard.recording import row_entry
from dashboard.texts import said
from incidents.models import Channel
from incidents.notifications import configuring
from incidents.notifications.channels.base import Field
from incidents.notifications.words import ENGLISH, LANGUAGES

PREFIX = "setting_"
"""Begins the names of the fields that differ from kind to kind."""
REMOVAL = "_removed"
"""Ends the name of the box that removes a stored secret."""
_SET = _("Stored. Leave it empty to keep it.")


class ChannelForm(EditForm):
    """A channel with its settings."""

    kind_of_channel = ""
    # In another project it would be notified of the incidents of its former one.
    fixed: Collection[str] = ("project",)

    language = forms.ChoiceField(
        label=_("Language"), choices=list(LANGUAGES.items()), required=False, help_text=_("Of its messages.")
    )

    class Meta:
        model = Channel
        fields = ["project", "name", "timezone", "language", "is_enabled", "folds", "quiet_from", "quiet_until"]
        labels = {
            "name": _("Name"),
            "timezone": _("Time zone"),
            "is_enabled": _("Enabled"),
            "folds": _("One message for many openings at once"),
            "quiet_from": _("Quiet from"),
            "quiet_until": _("Quiet until"),
        }
        help_texts = {
            "project": _("Empty: a channel of the instance, which is notified of incidents of the clock itself."),
            "timezone": _("The zone of the times in its messages, and of its quiet hours."),
            "folds": _("Off: a message for each incident, however many there are."),
            "quiet_from": _(
                "From here to the next, daily, only what is critical is sent; the rest at the end, together."
            ),
            "quiet_until": _(
                "Both are whole minutes, or both are empty. May be earlier than the other: on the next day."
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        values = getattr(kwargs.get("instance"), "values", None) or {}
        kwargs["initial"] = {f"{PREFIX}{name}": text for name, text in values.items()} | (kwargs.get("initial") or {})
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
            typed = self.cleaned_data.get(f"{PREFIX}{field.name}")
            kept = "" if field.is_secret else str(self.instance.values.get(field.name, ""))
            found[field.name] = kept if typed is None else str(typed)
        return found

    def removed(self) -> set[str]:
        """Return the settings whose stored secrets shall go, unless another one was typed."""
        names = {field.name for field in configuring.fields_of(self.instance.kind)}
        return {name for name in names if self.cleaned_data.get(f"{PREFIX}{name}{REMOVAL}")}

    def clean(self) -> dict[str, Any]:
        """Check the settings as their service wants them, and the quiet hours."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "quiet_from" in cleaned and "quiet_until" in cleaned:
            problem = configuring.quiet_problem(cleaned["quiet_from"], cleaned["quiet_until"])
            if problem:
                self.add_error("quiet_until", said(problem))
        _, problems = configuring.merge_settings(self.instance, self.settings(), removed=self.removed())
        for name, sentence in problems.items():
            self.add_error(f"{PREFIX}{name}" if f"{PREFIX}{name}" in self.fields else None, said(sentence))
        return cleaned

    def _post_clean(self) -> None:
        super()._post_clean()
        if not self.errors:
            for name, sentence in configuring.row_problems(self.instance).items():
                self.add_error(name or None, said(sentence))


def channel_form(
    kind: str,
    stored: Mapping[str, str],
    *,
    base: type[ChannelForm] = ChannelForm,
    text_input: type[forms.TextInput] = forms.TextInput,
) -> type[ChannelForm]:
    """Return the form of a kind of channel. `stored` are the secrets that it has."""
    fields: dict[str, forms.Field] = {}
    for field in configuring.fields_of(kind):
        is_stored = field.name in stored
        fields[f"{PREFIX}{field.name}"] = _form_field(field, is_stored=is_stored, text_input=text_input)
        if is_stored and field.is_secret and not field.is_required:
            label = _("Remove what is stored: %(name)s") % {"name": said(field.label)}
            fields[f"{PREFIX}{field.name}{REMOVAL}"] = forms.BooleanField(label=label, required=False)
    return type("ChannelForm", (base,), {**fields, "kind_of_channel": kind})


def _form_field(field: Field, *, is_stored: bool, text_input: type[forms.TextInput]) -> forms.Field:
    hint = _SET if field.is_secret and is_stored else said(field.help)
    common: dict[str, Any] = {"label": said(field.label), "help_text": hint, "required": False}
    if field.choices:
        return forms.ChoiceField(choices=[("", "—"), *((choice, choice) for choice in field.choices)], **common)
    attributes = {"autocomplete": "off", "spellcheck": "false"}
    if field.is_secret:
        return forms.CharField(widget=forms.PasswordInput(attributes, render_value=False), **common)
    return forms.CharField(widget=text_input(attrs=attributes), **common)


@transaction.atomic
def store_channel(form: ChannelForm, *, is_new: bool, by: Actor) -> None:
    """Store the channel of a valid form with its settings, and record what changed. Raises ChannelError."""
    channel, stored = form.instance, dict(form.instance.values)
    removed = form.removed()
    configuring.save_channel(channel, form.settings(), removed=removed, now=by.at)
    given = {name: form.cleaned_data.get(name) for name in form.changed_data}
    changes = dict(difference(form.initial, given))
    changes |= difference(stored, channel.values)
    changes |= {f"{PREFIX}{name}": (True, None) for name in removed if f"{PREFIX}{name}" not in changes}
    secrets = {f"{PREFIX}{field.name}" for field in configuring.fields_of(channel.kind) if field.is_secret}
    settings = {name for name in changes if name.startswith(PREFIX)} - secrets
    changes = {name: pair for name, pair in changes.items() if name not in settings}
    entry = row_entry(channel, "created" if is_new else CHANGED, changes)
    record([replace(entry, secret={*entry.secret, *secrets})], by=by)

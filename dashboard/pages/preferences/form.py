"""The form of what a person prefers: on pages, and in messages."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib.auth.models import User
from django.utils.translation import gettext_lazy as _

from accounts.membership import roles_by_project
from accounts.models import Preferences
from accounts.preferences import preferences_of
from dashboard.moments import READER_ZONE
from incidents.notifications.personal import COLUMNS, projects_that_may_notify
from monitors.models import Project
from monitors.schedule import ScheduleError, parse_timezone


def _clock_face(label: Any, help_text: Any = "") -> forms.TimeField:
    widget = forms.TimeInput(format="%H:%M", attrs={"type": "time"})
    return forms.TimeField(label=label, required=False, widget=widget, input_formats=["%H:%M"], help_text=help_text)


class PreferencesForm(forms.Form):
    """What a person types. A field that is left empty is as the browser, or as the account."""

    timezone = forms.CharField(
        label=_("Time zone"),
        required=False,
        max_length=64,
        widget=forms.TextInput(attrs={"list": "zones", "autocomplete": "off", "spellcheck": "false"}),
        help_text=_("Of all pages, of messages to you and of your quiet hours. Empty: that of your browser."),
    )
    language = forms.ChoiceField(
        label=_("Language"), required=False, help_text=_("Of the pages, and of messages to you.")
    )
    email = forms.EmailField(label=_("E-mail address for notifications"), required=False)
    quiet_from = _clock_face(_("Quiet from"))
    quiet_until = _clock_face(
        _("Quiet until"),
        _("Between these, daily, you are notified only of what is critical; the rest at the end, in one mail."),
    )
    without_single_keys = forms.BooleanField(
        label=_("No shortcuts of a single key"),
        required=False,
        help_text=_("For those who speak to their computer, or touch keys by accident. Everything works without them."),
    )
    projects = forms.TypedMultipleChoiceField(
        label=_("Projects that may notify you"),
        required=False,
        coerce=int,
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *arguments: Any, user: User, **options: Any) -> None:
        self._user = user
        preferences = preferences_of(user)
        initial = {name: getattr(preferences, name) for name in COLUMNS}
        initial["email"] = preferences.unconfirmed_email or preferences.email
        options["initial"] = initial | {"projects": sorted(projects_that_may_notify(user))}
        super().__init__(*arguments, **options)
        zone = READER_ZONE.get()
        self.fields["timezone"].widget.attrs["placeholder"] = "" if zone is None else zone.key
        self._choices("language").choices = [("", _("as the browser")), *settings.LANGUAGES]
        own = Project.objects.filter(id__any_of=list(roles_by_project(user))).order_by("name")
        projects = list(own.values_list("id", "name"))
        self._choices("projects").choices = projects
        self.fields["email"].help_text = (
            _("Empty: that of your account, %(address)s.") % {"address": user.email}
            if user.email
            else _("Your account has no address.")
        )
        self.fields["projects"].help_text = _(
            "There you are the channel @%(name)s: editors name it in routes, and routes that notify owners find it. "
            "Mails come to your address, in your language, and heed your quiet hours."
        ) % {"name": user.get_username()}
        if not projects:
            del self.fields["projects"]

    def _choices(self, name: str) -> forms.ChoiceField:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        return field

    def clean_timezone(self) -> str:
        """Refuse a zone that there is not."""
        name: str = self.cleaned_data["timezone"]
        try:
            return parse_timezone(name) if name else ""
        except ScheduleError:
            raise forms.ValidationError(
                _("%(name)r is no time zone; Europe/Vienna is one."), params={"name": name}
            ) from None

    def clean(self) -> dict[str, Any]:
        """Refuse quiet hours without both ends or a zone, and notifications without an address."""
        data: dict[str, Any] = super().clean() or {}
        begin, end = data.get("quiet_from"), data.get("quiet_until")
        if not {"quiet_from", "quiet_until"} & self.errors.keys():
            if (begin is None) != (end is None):
                self.add_error("quiet_until", _("Quiet hours have a beginning and an end: enter both, or none."))
            elif begin is not None and begin == end:
                self.add_error("quiet_until", _("Quiet hours may not last all day: these begin and end at once."))
            elif begin is not None and data.get("timezone") == "":
                self.add_error("timezone", _("Choose one: quiet hours are by its clocks."))
        if data.get("projects") and data.get("email") == "" and not self._user.email:
            self.add_error("email", _("Enter one: your account has none, and projects shall notify you."))
        return data

    def preferences(self) -> Preferences:
        """Return what was typed, not stored yet. Only for a valid form."""
        return Preferences(user_id=self._user.pk, **{name: self.cleaned_data[name] for name in COLUMNS})

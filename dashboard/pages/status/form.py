"""The form of a status page, a badge or a TV view: what it is called, and what it is about."""

import re
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from dashboard.models import TITLE_CHARACTERS_MAX, ShareLink
from dashboard.vocabulary import word
from monitors.models import Environment, Monitor, Project

TAGS_MAX = 20
TAG_CHARACTERS_MAX = 50
PUBLIC_NAME = re.compile(r"[a-z0-9](-?[a-z0-9]){2,29}")


class ShareForm(forms.Form):
    """What a person types. Fields that are left empty narrow nothing."""

    kind = forms.ChoiceField(
        label=_("What"), choices=lambda: [(kind.value, word(kind.label)) for kind in ShareLink.Kind]
    )
    title = forms.CharField(
        label=_("Title"), max_length=TITLE_CHARACTERS_MAX, help_text=_("Strangers see it: Jobs of the shop")
    )
    address = forms.CharField(
        label=_("Public name"),
        required=False,
        max_length=30,
        help_text=_("For a status page that everybody may find, at /s/<name>/. Empty: an address that nobody guesses."),
    )
    monitor = forms.CharField(
        label=_("Only this monitor"), required=False, max_length=50, help_text=_("Its slug. Empty: all of the project.")
    )
    tags = forms.CharField(
        label=_("Only monitors with one of these tags"),
        required=False,
        max_length=500,
        help_text=_("Separated by commas."),
    )
    environment = forms.CharField(
        label=_("Only this environment"), required=False, max_length=64, help_text=_("production, for example.")
    )

    def __init__(self, *arguments: Any, project: Project, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._project = project

    def clean_address(self) -> str:
        """Check the name of a public page."""
        name: str = self.cleaned_data["address"]
        if name and not PUBLIC_NAME.fullmatch(name):
            raise forms.ValidationError(
                _("%(name)r is no public name: it takes 3 to 30 small letters and digits, with single dashes between."),
                params={"name": name},
            )
        return name

    def clean_monitor(self) -> Monitor | None:
        """Find the monitor."""
        slug: str = self.cleaned_data["monitor"]
        if not slug:
            return None
        found = Monitor.objects.not_deleted().filter(project=self._project, slug=slug).first()
        if found is None:
            raise forms.ValidationError(_("The project has no monitor %(slug)r."), params={"slug": slug})
        return found

    def clean_tags(self) -> list[str]:
        """Divide the tags."""
        tags = list(dict.fromkeys(tag for part in self.cleaned_data["tags"].split(",") if (tag := part.strip())))
        if len(tags) > TAGS_MAX:
            raise forms.ValidationError(
                _("These are %(count)d tags; at most %(most)d are allowed."),
                params={"count": len(tags), "most": TAGS_MAX},
            )
        if long := next((tag for tag in tags if len(tag) > TAG_CHARACTERS_MAX), ""):
            raise forms.ValidationError(_("%(tag)r is no tag: one has at most 50 characters."), params={"tag": long})
        return tags

    def clean_environment(self) -> str:
        """Find the environment."""
        name: str = self.cleaned_data["environment"]
        if name and not Environment.objects.filter(project=self._project, name=name).exists():
            raise forms.ValidationError(_("The project has no environment %(name)r."), params={"name": name})
        return name

    def clean(self) -> dict[str, Any]:
        """Refuse what does not go together."""
        data: dict[str, Any] = super().clean() or {}
        if data.get("address") and data.get("kind") != ShareLink.Kind.STATUS:
            self.add_error("address", _("Only a status page has a public name: leave this empty."))
        if data.get("monitor") and data.get("tags"):
            self.add_error("tags", _("Choose a monitor or tags, not both."))
        return data

    def link(self) -> ShareLink:
        """Return the link, not stored yet. Only for a valid form."""
        return ShareLink(project=self._project, is_public=bool(self.cleaned_data["address"]), **self.cleaned_data)

"""The form of a channel on its page: that of the admin, in a project that is given."""

from collections.abc import Mapping
from typing import Any

from django import forms

from dashboard.channel_form import PREFIX, ChannelForm, channel_form


def _clock_face() -> forms.TimeInput:
    return forms.TimeInput(format="%H:%M", attrs={"type": "time"})


class ChannelPageForm(ChannelForm):
    """A channel of one project, which `instance` has."""

    fixed = ()

    class Meta(ChannelForm.Meta):
        fields = [name for name in ChannelForm.Meta.fields if name != "project"]
        widgets = {
            "timezone": forms.TextInput(attrs={"list": "zones", "autocomplete": "off"}),
            "quiet_from": _clock_face(),
            "quiet_until": _clock_face(),
        }

    def _get_validation_exclusions(self) -> set[str]:
        # The name is unique in the project.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]  # not in its stubs
        return excluded - {"project"}

    def ordered(self) -> list[Any]:
        """Return the fields in the order of the page: the name, the settings of the kind, the rest."""
        own = [self[name] for name in self.fields if name.startswith(PREFIX)]
        rest = [self[name] for name in self.fields if not name.startswith(PREFIX) and name != "name"]
        return [self["name"], *own, *rest]


def form_of(kind: str, stored: Mapping[str, str]) -> type[ChannelPageForm]:
    """Return the form of a kind of channel. `stored` are the secrets that it has."""
    found = channel_form(kind, stored, base=ChannelPageForm)
    assert issubclass(found, ChannelPageForm)
    return found

"""For how long people snooze a monitor: the choices of the button, in the reader's zone."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils.dateformat import format as format_date
from django.utils.html import format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from dashboard.moments import READER_ZONE, length_in_words
from incidents.handling import SnoozeError

MORNING_HOUR = 9
HOURS = {"1h": 1, "4h": 4, "1d": 24, "7d": 168}


def snooze_choices(now: datetime) -> Sequence[tuple[str, str]]:
    """Return the choices: what the button sends, and its words."""
    day = format_date(_morning(now, READER_ZONE.get()), "D")
    until = _("until %(day)s %(time)s") % {"day": day, "time": f"{MORNING_HOUR:02}:00"}
    lengths = [(name, length_in_words(timedelta(hours=hours))) for name, hours in HOURS.items()]
    return (*lengths[:2], ("morning", until), *lengths[2:])


def snooze_buttons(now: datetime) -> SafeString:
    """Return the choices as buttons, drawn once for all rows of a page."""
    return format_html_join("", '<button name="for" value="{}">{}</button>', snooze_choices(now))


def snooze_end(choice: str, *, now: datetime) -> datetime:
    """Return when a snooze ends. Raises SnoozeError for an unknown choice."""
    if choice == "morning":
        return _morning(now, READER_ZONE.get()).astimezone(UTC)
    if choice not in HOURS:
        text = _("%(choice)r is no length of a snooze; choose one of: %(choices)s.")
        raise SnoozeError(text % {"choice": choice[:20], "choices": ", ".join((*HOURS, "morning"))})
    return now + timedelta(hours=HOURS[choice])


def _morning(now: datetime, zone: ZoneInfo | None) -> datetime:
    """Return the next morning on the reader's wall clock."""
    local = now.astimezone(zone or ZoneInfo("UTC"))
    morning = local.replace(hour=MORNING_HOUR, minute=0, second=0, microsecond=0)
    return morning if morning > local else morning + timedelta(days=1)

"""The table of maintenance windows; the decisions about them are `monitors.maintenance`."""

from django.db import models
from django.db.models import F, Func, Q

from monitors.maintenance import MINUTES_MAX, NAME_CHARACTERS_MAX, Recurrence, Window
from monitors.schedule import CRONTAB_CHARACTERS_MAX


def _minute_of(column: str) -> Func:
    template = "date_trunc('minute', %(expressions)s, 'UTC')"
    return Func(column, template=template, output_field=models.DateTimeField())


class MaintenanceWindow(models.Model):
    """A time in which slots of some monitors are not judged, once or by a rule.

    A row is one of:
    1. one-off: from `starts_at` to before `ends_at`.
    2. recurring: `crontab` says when occurrences begin in `timezone`, and `minutes` or `until` when each ends; it
       applies from `starts_at`, and to before `ends_at` if that is set.
    It is about all environments of the project, or those of `monitor`, or those of all monitors with `tag`; of these,
    if `environment` is set, only those in that one.

    What is past is never rewritten: to end a window is to set `ends_at` to the next minute, and an edit ends the row
    and makes a new one. So the verdict on a slot does not depend on when the clock gets there (P9).
    """

    project = models.ForeignKey(
        "monitors.Project", on_delete=models.CASCADE, related_name="maintenance_windows", db_index=False
    )
    name = models.CharField(max_length=NAME_CHARACTERS_MAX)
    monitor = models.ForeignKey(
        "monitors.Monitor", on_delete=models.CASCADE, related_name="maintenance_windows", null=True, blank=True
    )
    tag = models.CharField(max_length=50, blank=True)
    environment = models.ForeignKey(
        "monitors.Environment", on_delete=models.CASCADE, related_name="+", null=True, blank=True
    )
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    crontab = models.CharField(max_length=CRONTAB_CHARACTERS_MAX, blank=True)
    timezone = models.CharField(max_length=64, default="UTC")
    minutes = models.PositiveSmallIntegerField(null=True, blank=True)
    until = models.TimeField(null=True, blank=True)
    created_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=~Q(name=""), name="maintenance_window_name_not_empty"),
            models.CheckConstraint(
                condition=Q(ends_at__isnull=True) | Q(ends_at__gt=F("starts_at")),
                name="maintenance_window_ends_after_its_start",
            ),
            # Ticks are whole minutes: within one, a deadline and the end of its window must not differ.
            models.CheckConstraint(
                condition=Q(starts_at=_minute_of("starts_at"))
                & (Q(ends_at__isnull=True) | Q(ends_at=_minute_of("ends_at"))),
                name="maintenance_window_of_whole_minutes",
            ),
            # One-off or recurring; an occurrence has a length or an end, never both.
            models.CheckConstraint(
                condition=Q(crontab="", minutes__isnull=True, until__isnull=True, ends_at__isnull=False)
                | (~Q(crontab="") & Q(minutes__isnull=True, until__isnull=False))
                | (
                    ~Q(crontab="")
                    & Q(minutes__isnull=False, minutes__gte=1, minutes__lte=MINUTES_MAX, until__isnull=True)
                ),
                name="maintenance_window_once_or_by_a_rule",
            ),
            models.CheckConstraint(
                condition=Q(monitor__isnull=True) | Q(tag=""), name="maintenance_window_of_a_monitor_or_a_tag"
            ),
        ]
        indexes = [
            # Which of a project concern all its monitors, or those with a tag.
            models.Index(
                fields=["project", "tag"], condition=Q(monitor__isnull=True), name="maintenance_window_of_many"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def window(self) -> Window:
        """Return the row as a value, for decisions."""
        recurrence = Recurrence(self.crontab, self.timezone, self.minutes, self.until) if self.crontab else None
        return Window(self.name, self.starts_at, self.ends_at, recurrence)

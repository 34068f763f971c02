"""Who gets a weekly report about a project, and when."""

from django.db import models
from django.db.models import Q

from incidents.models.channels import Channel
from monitors.models import Project


class WeeklyReport(models.Model):
    """The weekly report of a project: by mail to the addresses of a channel, at an hour of a weekday in a zone.

    `weekday` counts from Monday, 0. `last_day` is the day of the newest report; the next one is of a later week, so
    that there is one a week at most, even if the weekday changes.
    """

    project = models.OneToOneField(Project, on_delete=models.CASCADE, related_name="weekly_report")
    channel = models.ForeignKey(Channel, on_delete=models.CASCADE, related_name="weekly_reports", db_index=False)
    weekday = models.PositiveSmallIntegerField(
        default=0,
        choices=list(
            enumerate(("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")),
        ),
    )
    hour = models.PositiveSmallIntegerField(default=8)
    timezone = models.CharField(max_length=64, default="UTC")
    is_enabled = models.BooleanField(default=True)
    changed_at = models.DateTimeField()
    last_day = models.DateField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(weekday__lte=6), name="weekly_report_weekday_is_known"),
            models.CheckConstraint(condition=Q(hour__lte=23), name="weekly_report_hour_is_of_a_day"),
        ]

    def __str__(self) -> str:
        return f"weekly report of {self.project}"

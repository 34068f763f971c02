"""The ping addresses that monitors had before."""

from django.db import models


class FormerAddress(models.Model):
    """An earlier `guid` of a monitor: its ping address works beside the new one until `ends_at`."""

    monitor = models.ForeignKey("monitors.Monitor", on_delete=models.CASCADE, related_name="former_addresses")
    guid = models.UUIDField(unique=True, editable=False)
    ends_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.monitor} until {self.ends_at}"

"""The addresses to which jobs report, as pages show them."""

from django.conf import settings
from django.http import HttpRequest

from monitors.models import Monitor
from monitors.snippets import Address


def address_of(monitor: Monitor, base: str, *, shows_key: bool = True) -> Address:
    """Return the address of a monitor, with the oldest active key of its project if that may be shown."""
    key = monitor.project.ingest_keys.filter(is_active=True).order_by("id").first() if shows_key else None
    return Address(
        base_url=base,
        project_id=monitor.project_id,
        slug=monitor.slug,
        guid=monitor.guid,
        public_key=None if key is None else key.public_key,
        crontab=monitor.crontab,
        timezone=monitor.timezone,
    )


def base_url(request: HttpRequest) -> str:
    """Return the address under which jobs reach this server: from the settings, else that of this request."""
    scheme = "https" if request.is_secure() else "http"
    return settings.PUBLIC_URL or f"{scheme}://{request.get_host()}"

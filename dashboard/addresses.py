"""The addresses to which jobs report, as pages show them."""

from django.conf import settings
from django.http import HttpRequest

from lib.wallclock import utcnow
from monitors.models import IngestKey, Monitor, Project
from monitors.snippets import Address


def key_of(project: Project) -> IngestKey | None:
    """Return the key of a project that snippets have: the oldest one that works without an end, or else any."""
    return project.ingest_keys.in_force(utcnow()).first()


def address_of(monitor: Monitor, base: str, *, key: IngestKey | None) -> Address:
    """Return the address of a monitor, with a key of its project if that may be shown."""
    return Address(
        base_url=base,
        project_id=monitor.project_id,
        slug=monitor.slug,
        guid=monitor.guid,
        public_key=None if key is None else key.public_key,
        crontab=None if monitor.schedule().is_learning else monitor.crontab,
        timezone=monitor.timezone,
    )


def base_url(request: HttpRequest) -> str:
    """Return the address under which jobs reach this server: from the settings, else that of this request."""
    scheme = "https" if request.is_secure() else "http"
    return settings.PUBLIC_URL or f"{scheme}://{request.get_host()}"

"""The page behind the link in an alert: whoever opens it may acknowledge the incident, or all of a storm, without an
account.

Opening it changes nothing, since mail scanners and previews in chats open every link; the button on the page does. The
token in the address is what authorises, so no cookie and no CSRF token is needed.
"""

from datetime import datetime

from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from audit.entries import Actor, Source
from dashboard.link_pages import link_page
from incidents import handling
from incidents.models import Message, Storm
from incidents.notifications import acknowledge_links
from incidents.notifications.words import ENGLISH
from lib.wallclock import utcnow

TEMPLATE = "acknowledge/page.html"
NAME_LENGTH_MAX = 100
LISTED_MAX = 50


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def acknowledge(request: HttpRequest, token: str) -> HttpResponse:
    """Show the incident or the storm of a link, and acknowledge it on POST."""
    now = utcnow()
    link = acknowledge_links.read(token, now=now)
    message = None if link is None else _message(link)
    if message is None:
        return link_page(request, TEMPLATE, {"is_invalid": True, "days": acknowledge_links.LINK_DAYS}, status=404)
    if request.method == "POST":
        _acknowledge(request, message, now)
    context: dict[str, object] = {
        "asks_for_name": not request.user.is_authenticated,
        "language": message.channel.language if message.channel else ENGLISH,
    }
    if message.incident is not None:
        context |= {"incident": message.incident}
    elif message.storm is not None:
        context |= _storm(message.storm)
    return link_page(request, TEMPLATE, context)


def _acknowledge(request: HttpRequest, message: Message, now: datetime) -> None:
    by, via = _person(request, message)
    actor = Actor(name=by, source=Source.LINK, at=now, id=getattr(request.user, "pk", None))
    if message.incident is not None:
        handling.acknowledge(message.incident.guid, by=actor, via=via, now=now)
        message.incident.refresh_from_db()
    elif message.storm is not None:
        handling.acknowledge_storm(message.storm, by=actor, via=via, now=now)


def _storm(storm: Storm) -> dict[str, object]:
    """Return what the page of a storm shows: counts, and the first of those that nobody has acknowledged."""
    own = handling.members(storm)
    waiting = handling.open_members(storm)
    related = waiting.select_related("monitor_environment__monitor", "monitor_environment__environment")
    waiting_count = waiting.count()
    return {
        "storm": storm,
        "total": own.count(),
        "over": own.filter(resolved_at__isnull=False).count(),
        "waiting": waiting_count,
        "listed": related[:LISTED_MAX],
        "omitted": max(waiting_count - LISTED_MAX, 0),
    }


def _message(link: acknowledge_links.Link) -> Message | None:
    """Return the message that the link came with; none if it was removed, or what it is about is deleted."""
    about = Q(incident__guid=link.guid) | Q(storm__guid=link.guid)
    related = "incident__monitor_environment__"
    found = Message.objects.select_related(
        "channel", "storm__project", f"{related}monitor__project", f"{related}environment"
    )
    message = found.filter(about, pk=link.message_id).first()
    if message is None or message.incident is None:
        return message
    return None if message.incident.monitor_environment.status == "pending_deletion" else message


def _person(request: HttpRequest, message: Message) -> tuple[str, str]:
    """Return who acknowledges, and by which way: the account, or whom the link was sent to and the name given."""
    whose = message.recipient if message.is_mail else f"channel {message.channel}"
    if request.user.is_authenticated:
        return request.user.get_username(), f"the link sent to {whose}"
    given = " ".join(request.POST.get("name", "").split())[:NAME_LENGTH_MAX]
    printable = "".join(character for character in given if character.isprintable())
    return printable or (message.recipient if message.is_mail else f"somebody in {message.channel}"), (
        f"the link sent to {whose}"
    )

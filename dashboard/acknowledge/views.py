"""The page behind the link in an alert: whoever opens it may acknowledge the incident, without an account.

Opening it changes nothing, since mail scanners and previews in chats open every link; the button on the page does. The
token in the address is what authorises, so no cookie and no CSRF token is needed.
"""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from audit.entries import Actor, Source
from dashboard.link_pages import link_page
from incidents import handling
from incidents.models import Message
from incidents.notifications import acknowledge_links
from lib.wallclock import utcnow

TEMPLATE = "acknowledge/page.html"
NAME_LENGTH_MAX = 100


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def acknowledge(request: HttpRequest, token: str) -> HttpResponse:
    """Show the incident of a link, and acknowledge it on POST."""
    now = utcnow()
    link = acknowledge_links.read(token, now=now)
    message = None if link is None else _message(link)
    if message is None or message.incident is None:
        return link_page(request, TEMPLATE, {"is_invalid": True, "days": acknowledge_links.LINK_DAYS}, status=404)
    if request.method == "POST":
        by, via = _person(request, message)
        actor = Actor(name=by, source=Source.LINK, at=now, id=getattr(request.user, "pk", None))
        handling.acknowledge(message.incident.guid, by=actor, via=via, now=now)
        message.incident.refresh_from_db()
    asks_for_name = not request.user.is_authenticated
    return link_page(request, TEMPLATE, {"incident": message.incident, "asks_for_name": asks_for_name})


def _message(link: acknowledge_links.Link) -> Message | None:
    """Return the message that the link came with; none if it was removed."""
    found = Message.objects.filter(pk=link.message_id, incident__guid=link.incident_guid)
    related = "incident__monitor_environment__"
    return found.select_related("channel", f"{related}monitor__project", f"{related}environment").first()


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

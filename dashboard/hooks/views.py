"""Where services report that somebody acknowledged an incident there. Their signatures authorise, no cookie does."""

from uuid import UUID

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from incidents.handling.calling_back import Reception, receive
from incidents.notifications.channels.callbacks import BODY_BYTES_MAX, Call
from lib.wallclock import utcnow

STATUSES = {Reception.DONE: 200, Reception.REFUSED: 404, Reception.MORE: 503}


@csrf_exempt
@never_cache
@require_POST
def hook(request: HttpRequest, channel_guid: UUID, token: str = "") -> HttpResponse:
    """Take a request of a service. An unknown channel and a wrong signature have the same answer."""
    try:
        length = int(request.headers.get("Content-Length") or 0)
        body = request.body if length <= BODY_BYTES_MAX else None
    except (ValueError, RequestDataTooBig):
        body = None
    if body is None:
        return HttpResponse(status=413)
    headers = {name.lower(): text for name, text in request.headers.items()}
    return HttpResponse(status=STATUSES[receive(channel_guid, Call(headers, body, token), now=utcnow())])

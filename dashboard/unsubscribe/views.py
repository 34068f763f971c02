"""The page behind the link in a mail: whoever opens it may unsubscribe the address, without an account (RFC 8058).

Opening it changes nothing, since mail scanners open every link. A mail service that offers a button of its own posts
`List-Unsubscribe=One-Click`; the button on the page posts to the same address. The token in the address authorises, so
no cookie and no CSRF token is needed, and nothing of the body is read.
"""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from dashboard.link_pages import link_page
from incidents.models import Channel
from incidents.notifications import unsubscribe_links, unsubscribing
from lib.wallclock import utcnow

TEMPLATE = "unsubscribe/page.html"


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, token: str) -> HttpResponse:
    """Show whose mails a link ends, and end them on POST."""
    link = unsubscribe_links.read(token)
    channel = None if link is None else Channel.objects.filter(guid=link.channel_guid).first()
    if link is None or channel is None:
        return link_page(request, TEMPLATE, {"is_invalid": True}, status=404)
    if request.method == "POST":
        unsubscribing.unsubscribe(link, now=utcnow())
    is_done = unsubscribing.is_unsubscribed(link)
    context = {"link": link, "channel": channel, "is_done": is_done, "language": channel.language}
    return link_page(request, TEMPLATE, context)

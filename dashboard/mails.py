"""Mails that somebody asks for on a page, such as an invitation: whether they reach anybody."""

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext as _

from incidents.notifications.mail_settings import has_mail_server


def warn_without_mail_server(request: HttpRequest) -> None:
    """Say, after a mail was asked for, that it is only printed to a log, if that is so."""
    if not has_mail_server():
        messages.warning(request, _("Nobody gets this mail: EMAIL_URL names no mail server, so a log has it."))

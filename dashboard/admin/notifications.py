"""Pages of notifications and messages."""

import re

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard.admin.base import InspectionAdmin
from dashboard.admin.cells import NOTHING, instant, label, link_to
from dashboard.admin.recording import actor_of
from dashboard.admin.unfold import ChoicesDropdownFilter
from incidents.models import Message, Notification
from incidents.notifications import resending
from incidents.notifications.acknowledge_links import PATH as ACKNOWLEDGE_PATH
from incidents.notifications.addressees import NOBODY_NOTIFIED
from incidents.notifications.channels.mail_text import text as content_text
from incidents.notifications.stored import stored_content
from incidents.notifications.unsubscribe_links import PATH as UNSUBSCRIBE_PATH
from lib.wallclock import utcnow

SIGNED_LINK = re.compile(rf"(?<=\w)({ACKNOWLEDGE_PATH}|{UNSUBSCRIBE_PATH})[\w:.-]+")


@admin.register(Notification)
class NotificationAdmin(InspectionAdmin):
    """Notifications that were sent to people, or wait to be sent."""

    list_display = ("transition", "channel", "notified_label", "incident_link", "created", "sent")
    sortable_by = ("created",)
    list_filter = (("transition", ChoicesDropdownFilter), ("channel", ChoicesDropdownFilter))
    ordering = ("-id",)
    fields = ("transition", "channel", "notified_label", "incident_link", "created", "sent")
    readonly_fields = ("notified_label", "incident_link", "created", "sent")

    @admin.display(description="Created", ordering="created_at")
    def created(self, notification: Notification) -> SafeString:
        """Show the instant in UTC."""
        return instant(notification.created_at)

    @admin.display(description="Sent")
    def sent(self, notification: Notification) -> SafeString:
        """Show the instant in UTC."""
        return instant(notification.sent_at)

    @admin.display(description="State")
    def notified_label(self, notification: Notification) -> SafeString:
        """Show whether people were notified."""
        if notification.sent_at:
            return label("sent", "good")
        if notification.nobody_since and notification.held_by:
            return label("not sent", title=f"It was held until it was over: {notification.held_by}")
        if notification.nobody_since:
            return label("nobody was notified", "bad", title=NOBODY_NOTIFIED)
        if notification.held_until and not notification.addressed_at:
            return label("held", title=f"Until {notification.held_until:%Y-%m-%d %H:%M} UTC: {notification.held_by}")
        return label("waiting", title="See the state of each message under Messages.")

    @admin.display(description="Incident")
    def incident_link(self, notification: Notification) -> SafeString:
        """Link to the incident."""
        return link_to("incidents.incident", notification.incident_id, f"Incident {notification.incident_id}")


@admin.register(Message)
class MessageAdmin(InspectionAdmin):
    """The outbox: each message to each recipient, and the answer to it."""

    actions = ("send_now",)

    list_display = (
        "kind",
        "recipient",
        "state_label",
        "incident_link",
        "created",
        "finished",
        "attempt_count",
        "last_error",
    )
    sortable_by = ("created",)
    list_filter = (("kind", ChoicesDropdownFilter), ("status", ChoicesDropdownFilter))
    search_fields = ("recipient",)
    search_help_text = "Part of the address"
    ordering = ("-id",)
    fields = (
        "kind",
        "recipient",
        "state_label",
        "incident_link",
        "subject",
        "text",
        "created",
        "due",
        "finished",
        "attempt_count",
        "last_error",
        "idempotency_key",
    )
    readonly_fields = ("state_label", "incident_link", "text", "created", "due", "finished")
    list_select_related = ("channel",)

    @admin.display(description="Text")
    def text(self, message: Message) -> SafeString | str:
        """Show what it says, without markup."""
        parts = stored_content(message)
        said = message.body if parts is None else content_text(parts)
        # With the links anybody could acknowledge or unsubscribe, also people who may only look.
        shown = SIGNED_LINK.sub(r"\1…", said)
        return format_html('<pre style="white-space: pre-wrap">{}</pre>', shown) if shown else NOTHING

    @admin.display(description="State")
    def state_label(self, message: Message) -> SafeString:
        """Show its state, and the last error."""
        if message.status == Message.Status.WAITING and message.last_error:
            return label("failing", title=message.last_error)
        return label(message.get_status_display(), title=message.last_error)

    @admin.display(description="Created", ordering="created_at")
    def created(self, message: Message) -> SafeString:
        """Show the instant in UTC."""
        return instant(message.created_at)

    @admin.action(description="Send now", permissions=["send"])
    def send_now(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Send the selected messages now, with all their attempts."""
        ids = list(queryset.values_list("pk", flat=True)[: resending.SENT_AT_ONCE_MAX])
        count = resending.send_now(ids, by=actor_of(request, at=utcnow()))
        if count:
            messages.success(request, f"{count:,} {'message is' if count == 1 else 'messages are'} sent now.")
        if count < len(ids):
            messages.warning(
                request,
                "Some are not sent again: they were sent, are being sent, or a later message has overtaken them.",
            )

    def has_send_permission(self, request: HttpRequest) -> bool:
        """Sending again needs the right to change messages, which nobody uses to edit one."""
        return request.user.has_perm("incidents.change_message")

    @admin.display(description="Next try")
    def due(self, message: Message) -> SafeString | str:
        """Show the instant in UTC while it waits."""
        return instant(message.due_at) if message.status == Message.Status.WAITING else NOTHING

    @admin.display(description="Finished")
    def finished(self, message: Message) -> SafeString:
        """Show the instant in UTC."""
        return instant(message.finished_at)

    @admin.display(description="Incident")
    def incident_link(self, message: Message) -> SafeString | str:
        """Link to the incident."""
        if message.incident_id is None:
            return NOTHING
        return link_to("incidents.incident", message.incident_id, f"Incident {message.incident_id}")

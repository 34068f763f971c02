"""Notifying people over another channel that one fails (shell; the words are in `fallback_text`).

    a breaker open for five minutes, a mail server away for as long, or messages that were given up
        -> one message to each recipient of the project's fallback route; without one, mail to its owners;
           without those, to ALERT_EMAIL_TO; of e-mail, while the mail server cannot be used, over channels of
           the fallback route that need no mail

Once for each opening of a breaker, and for each project and outage of the mail server; messages that are given up are
reported together, at most once an hour for a channel. What nobody can be notified of is sent when somebody can; until
then `health` reports it. A message of this kind that fails itself has no fallback: `health` reports that too.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Coalesce
from django.urls import reverse

from accounts.models import Membership
from accounts.roles import Role
from incidents.models import Channel, MailOutage, Message, Route
from incidents.models.channels import EMAIL
from incidents.notifications import configuring
from incidents.notifications.addressees import clock_recipients, recipients
from incidents.notifications.channels.wording import one_line
from incidents.notifications.fallback_text import CORRECT_THE_ADDRESS, LISTED_MAX, Failure, Undelivered, write_fallback
from incidents.notifications.mail_settings import has_mail_server
from incidents.notifications.outbox import NewMessage, insert_messages, text_key
from incidents.notifications.routes import WITH_PERSON, recipients_of
from incidents.notifications.routing import Recipient
from incidents.notifications.wake import wake_after_commit
from incidents.notifications.words import ENGLISH
from monitors.models import Project

REPORTED_AFTER = timedelta(minutes=5)
"""How long a breaker has been open before people are notified: services restart."""
TOGETHER = timedelta(hours=1)
"""What a channel gives up in this time is reported together."""
LOOKED_BACK = timedelta(days=1)
"""What was given up earlier is not reported any more."""
CHANNELS_MAX = 100
"""Of one run; the next one goes on."""
COUNTED_MAX = 1_000
NOT_REPORTED = Q(kind__in=[Message.Kind.TEST, Message.Kind.FALLBACK])
"""Messages whose failure is reported to nobody: whoever sent a test sees it."""


_PROJECT = Coalesce("incident__monitor_environment__monitor__project", "storm__project")


def report_failures(*, now: datetime) -> int:
    """Write messages about channels and mail addresses that fail; returns how many."""
    count = sum(_report_channel(id_, now=now) for id_ in _failing_channels(now))
    count += _report_mail_outage(now=now)
    return count + sum(_report_address(*one, now=now) for one in _failing_addresses(now))


def unreported_channels(*, now: datetime) -> QuerySet[Channel]:
    """Return the channels whose open breaker people must be notified of, longest first."""
    unusable = Channel.objects.filter(open_since__lte=now - REPORTED_AFTER, is_enabled=True, removed_at__isnull=True)
    unreported = Q(fallback_told_at__isnull=True) | Q(fallback_told_at__lt=F("open_since"))
    return unusable.filter(unreported).order_by("open_since", "id")


def unreported_messages(*, now: datetime) -> QuerySet[Message]:
    """Return the messages given up in the last day that nobody was notified of. Index: message_failed_untold."""
    failed = Message.objects.filter(status=Message.Status.FAILED, fallback_at__isnull=True)
    return failed.filter(finished_at__gt=now - LOOKED_BACK).exclude(NOT_REPORTED)


def _failing_channels(now: datetime) -> list[int]:
    given_up = unreported_messages(now=now).filter(channel__isnull=False)
    patient = Q(channel__fallback_told_at__isnull=True) | Q(channel__fallback_told_at__lte=now - TOGETHER)
    found = [*unreported_channels(now=now).values_list("id", flat=True)[:CHANNELS_MAX]]
    found += given_up.filter(patient).order_by("channel").values_list("channel", flat=True).distinct()[:CHANNELS_MAX]
    return list(dict.fromkeys(found))


def _failing_addresses(now: datetime) -> list[tuple[str, int | None]]:
    """Return mail addresses without a channel, each with the project whose mails it did not get."""
    rows = unreported_messages(now=now).filter(channel__isnull=True).annotate(of=_PROJECT).order_by("recipient", "of")
    return list(rows.values_list("recipient", "of").distinct()[:CHANNELS_MAX])


@transaction.atomic
def _report_channel(channel_id: int, *, now: datetime) -> int:
    """Notify people that a channel fails, if there are any; returns how many. Another process may be doing it."""
    locked = Channel.objects.select_for_update(skip_locked=True, no_key=True, of=("self",)).select_related("project")
    channel = locked.filter(id=channel_id).first()
    if channel is None:
        return 0
    given_up = unreported_messages(now=now).filter(channel=channel)
    is_open = unreported_channels(now=now).filter(id=channel_id).exists()
    if not is_open and not given_up.exists():
        return 0
    waiting = Message.objects.filter(channel=channel, status=Message.Status.WAITING).exclude(NOT_REPORTED)
    if channel.kind == EMAIL and channel.open_since is not None:
        people = _not_over_mail(channel.project)
    elif channel.kind == EMAIL:  # Its other addresses may work.
        people = people_to_notify(channel.project, without=None, names=_addresses(given_up))
    else:
        people = people_to_notify(channel.project, without=channel, names=())
    if not people:
        return 0
    failure = Failure(
        channel=one_line(channel.name),
        service=configuring.KINDS.get(channel.kind, channel.kind),
        project=one_line(channel.project.slug) if channel.project else "",
        since=channel.open_since,
        error=one_line(channel.last_error or _last_error(given_up), 500),
        given_up=_listed(given_up),
        given_up_count=_count(given_up),
        waiting=_listed(waiting) if channel.open_since else (),
        waiting_count=_count(waiting) if channel.open_since else 0,
        link=_link(channel),
    )
    _write(f"{channel.guid} {now.isoformat()}", people, failure, now=now)
    Channel.objects.filter(id=channel_id).update(fallback_told_at=now)
    given_up.update(fallback_at=now)
    return len(people)


@transaction.atomic
def _report_address(address: str, project_id: int | None, *, now: datetime) -> int:
    """Notify others that mail to an address of ALERT_EMAIL_TO was given up; returns how many. At most once an hour."""
    mine = Q(recipient=address, of__isnull=True) if project_id is None else Q(recipient=address, of=project_id)
    given_up = unreported_messages(now=now).annotate(of=_PROJECT).filter(mine, channel__isnull=True)
    held = given_up.order_by("id").select_for_update(skip_locked=True, no_key=True, of=("self",))
    ids = list(held.values_list("id", flat=True)[:COUNTED_MAX])
    project = Project.objects.filter(id=project_id).first() if project_id is not None else None
    is_away = MailOutage.objects.exists()
    people = _not_over_mail(project) if is_away else people_to_notify(project, without=None, names={address})
    name = f"{address} {project_id} {now:%Y-%m-%d %H}"
    if not ids or not people or _is_written(name, people):
        return 0
    own = Message.objects.filter(id__any_of=ids)
    failure = Failure(
        channel=one_line(address),
        service="E-mail",
        remedy=CORRECT_THE_ADDRESS,
        project=one_line(project.slug) if project else "",
        since=None,
        error=one_line(_last_error(own), 500),
        given_up=_listed(own),
        given_up_count=len(ids),
    )
    _write(name, people, failure, now=now)
    own.update(fallback_at=now)
    return len(people)


@transaction.atomic
def _report_mail_outage(*, now: datetime) -> int:
    """Notify people that mails to ALERT_EMAIL_TO wait for the mail server, once for each project; returns how many."""
    locked = MailOutage.objects.select_for_update(skip_locked=True, no_key=True)
    outage = locked.filter(began_at__lte=now - REPORTED_AFTER, failed_at__gte=now - REPORTED_AFTER).first()
    if outage is None:
        return 0
    of_nobody = Message.objects.filter(channel__isnull=True, status=Message.Status.WAITING).exclude(NOT_REPORTED)
    waiting = of_nobody.filter(Q(due_at__lte=now) | Q(attempt_count__gt=0)).annotate(of=_PROJECT)
    ids = set(waiting.order_by().values_list("of", flat=True).distinct()) - set(outage.told_projects)
    projects: list[Project | None] = list(_with_other_channels(ids)[:CHANNELS_MAX])
    count = 0
    for project in [*projects, None] if None in ids else projects:
        people = _not_over_mail(project)
        if not people:
            continue
        own = waiting.filter(of__isnull=True) if project is None else waiting.filter(of=project.id)
        failure = Failure(
            channel="ALERT_EMAIL_TO",
            service="E-mail",
            remedy=CORRECT_THE_ADDRESS,
            project=one_line(project.slug) if project else "",
            since=outage.began_at,
            error=one_line(outage.last_error, 500),
            waiting=_listed(own),
            waiting_count=_count(own),
        )
        id_ = None if project is None else project.id
        _write(f"mail outage {id_} {outage.began_at.isoformat()}", people, failure, now=now)
        outage.told_projects.append(id_)
        count += len(people)
    outage.save(update_fields=["told_projects"])
    return count


def _with_other_channels(project_ids: Collection[int | None]) -> QuerySet[Project]:
    """Return those of the projects whose fallback route has a channel that needs no mail."""
    usable = Channel.objects.filter(is_enabled=True, removed_at__isnull=True).exclude(kind=EMAIL)
    routes = Route.objects.filter(is_fallback=True, is_enabled=True, channels__in=usable)
    return Project.objects.filter(
        id__any_of=[id_ for id_ in project_ids if id_ is not None], id__in=routes.values("project")
    ).order_by("id")


def people_to_notify(project: Project | None, *, without: Channel | None, names: Collection[str]) -> list[Recipient]:
    """Return who is notified: the first of the three that has somebody left beside those who were not reached."""
    for candidates in (_fallback_route(project), _owners(project), _default(project)):
        own = [one for one in candidates if one.name not in names and (without is None or one.channel != without.id)]
        if own:
            return own
    return []


def _not_over_mail(project: Project | None) -> list[Recipient]:
    """Return who can be notified while the mail server cannot be used."""
    found = _fallback_route(project) if project else clock_recipients()
    mails = set(Channel.objects.filter(project=project, kind=EMAIL).values_list("id", flat=True))
    return [one for one in found if one.channel is not None and one.channel not in mails]


def _fallback_route(project: Project | None) -> list[Recipient]:
    route = Route.objects.filter(project=project, is_fallback=True, is_enabled=True).first() if project else None
    if route is None:
        return []
    usable = route.channels.filter(is_enabled=True, removed_at__isnull=True, open_since__isnull=True).order_by("id")
    usable = usable.select_related(WITH_PERSON)
    found: dict[str, Recipient] = {}
    for channel in usable:
        if channel.kind != EMAIL or has_mail_server():
            for name in recipients_of(channel):
                found.setdefault(name, Recipient(name, channel.id, f"fallback route {route.name}"))
    return list(found.values())


def _owners(project: Project | None) -> list[Recipient]:
    if project is None or not has_mail_server():
        return []
    owners = Membership.objects.filter(project=project, role=Role.OWNER.value, user__is_active=True)
    addresses = owners.exclude(user__email="").order_by("user").values_list("user__email", flat=True)
    return [Recipient(address, None, "an owner of the project") for address in dict.fromkeys(addresses)]


def _default(project: Project | None) -> list[Recipient]:
    if project is None:
        return clock_recipients()
    return [Recipient(address, None, "ALERT_EMAIL_TO") for address in recipients()]


def _write(name: str, people: Sequence[Recipient], failure: Failure, *, now: datetime) -> None:
    channels = Channel.objects.filter(id__any_of=[one.channel for one in people if one.channel is not None])
    languages: dict[int | None, str] = dict(channels.values_list("id", "language"))
    kind = Message.Kind.FALLBACK.value
    messages = []
    for one in people:
        letter = write_fallback(failure, languages.get(one.channel, ENGLISH))
        messages.append(NewMessage(None, kind, one, _key(name, one), letter.subject, letter.body))
    insert_messages(messages, now=now)
    wake_after_commit()


def _is_written(name: str, people: Sequence[Recipient]) -> bool:
    return Message.objects.filter(idempotency_key__any_of=[_key(name, one) for one in people]).exists()


def _key(name: str, recipient: Recipient) -> UUID:
    return text_key(f"fallback {name}", Message.Kind.FALLBACK.value, recipient.name)


def _listed(messages: QuerySet[Message]) -> list[Undelivered]:
    related = "incident__monitor_environment__"
    rows = messages.select_related(f"{related}monitor", f"{related}environment").order_by("id")
    return [_undelivered(message) for message in rows[:LISTED_MAX]]


def _undelivered(message: Message) -> Undelivered:
    if message.incident is None:
        subject = message.subject or ("many incidents" if message.storm_id else "Watchclock")
        return Undelivered(one_line(subject), message.get_kind_display(), message.created_at)
    environment = message.incident.monitor_environment
    name = one_line(environment.monitor.name or environment.monitor.slug)
    return Undelivered(
        f"{name} ({one_line(environment.environment.name)})", message.get_kind_display(), message.created_at
    )


def _count(messages: QuerySet[Message]) -> int:
    return messages.order_by().values("id")[:COUNTED_MAX].count()


def _last_error(messages: QuerySet[Message]) -> str:
    return messages.order_by("-finished_at", "-id").values_list("last_error", flat=True).first() or ""


def _addresses(messages: QuerySet[Message]) -> list[str]:
    return list(messages.order_by("recipient").values_list("recipient", flat=True).distinct()[:COUNTED_MAX])


def _link(channel: Channel) -> str:
    """The page of the channel. Owners of a project may not open the admin, which has those of the instance."""
    if channel.project:
        path = reverse("channel", args=[channel.project.slug, channel.id])
    else:
        path = reverse("admin:incidents_channel_change", args=[channel.id])
    return f"{settings.PUBLIC_URL}{path}" if settings.PUBLIC_URL else ""

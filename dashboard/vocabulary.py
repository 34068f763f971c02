"""The short words of statuses, kinds, roles and choices that pages show, in the reader's language.

They are values of rows, so no template can mark them. A word that is not here is shown as it is stored, and a test of
the translations finds it.
"""

from typing import Any

from django.utils.translation import gettext, gettext_noop

from monitors.schedule import LEARNING_CRONTAB

WORDS = frozenset(
    (
        # states of environments and runs
        gettext_noop("failing"),
        gettext_noop("late"),
        gettext_noop("running"),
        gettext_noop("waiting"),
        gettext_noop("disabled"),
        gettext_noop("muted"),
        gettext_noop("ok"),
        gettext_noop("error"),
        gettext_noop("missed"),
        gettext_noop("timeout"),
        gettext_noop("timed out"),
        gettext_noop("slow"),
        gettext_noop("fast"),
        gettext_noop("overlap"),
        gettext_noop("unknown"),
        gettext_noop("in progress"),
        gettext_noop("active"),
        gettext_noop("maintenance"),
        # why a run is a failure, and limits of runs
        gettext_noop("too slow"),
        gettext_noop("too fast"),
        gettext_noop("overlapping"),
        gettext_noop("too slow, a failure"),
        gettext_noop("too fast, a failure"),
        gettext_noop("overlapping, a failure"),
        # incidents, issues and their history
        gettext_noop("open"),
        gettext_noop("resolved"),
        gettext_noop("unresolved"),
        gettext_noop("archived"),
        gettext_noop("opened"),
        gettext_noop("failed"),
        gettext_noop("failed again"),
        gettext_noop("notified"),
        gettext_noop("acknowledged"),
        gettext_noop("no longer acknowledged"),
        gettext_noop("handled"),
        gettext_noop("comment"),
        gettext_noop("the job"),
        gettext_noop("its page"),
        gettext_noop("the admin"),
        gettext_noop("the demo"),
        # what a role may do
        gettext_noop("see"),
        gettext_noop("see private logs"),
        gettext_noop("acknowledge"),
        gettext_noop("handle issues"),
        gettext_noop("snooze"),
        gettext_noop("mute"),
        gettext_noop("assign"),
        gettext_noop("see ping URLs"),
        gettext_noop("edit monitors"),
        gettext_noop("edit windows"),
        gettext_noop("edit dependencies"),
        gettext_noop("edit routes"),
        gettext_noop("share views"),
        gettext_noop("manage members"),
        gettext_noop("manage keys"),
        gettext_noop("manage channels"),
        gettext_noop("manage status pages"),
        gettext_noop("delete"),
        # severities
        gettext_noop("critical"),
        gettext_noop("warning"),
        gettext_noop("info"),
        # messages: what they are of, and what became of them
        gettext_noop("still open"),
        gettext_noop("escalated"),
        gettext_noop("sent"),
        gettext_noop("folded into a newer one"),
        gettext_noop("no longer needed"),
        # how a check-in was received
        gettext_noop("sentry envelope"),
        gettext_noop("sentry http"),
        gettext_noop("healthchecks"),
        gettext_noop("cronitor"),
        gettext_noop("uptime kuma"),
        gettext_noop("rest"),
        gettext_noop("clock"),
        gettext_noop("simulation"),
        # schedules
        gettext_noop("crontab"),
        gettext_noop("interval"),
        gettext_noop("minutes"),
        gettext_noop("hours"),
        gettext_noop("days"),
        gettext_noop("weeks"),
        gettext_noop("months"),
        gettext_noop("years"),
        # groups and ranges of the wall
        gettext_noop("project"),
        gettext_noop("environment"),
        gettext_noop("1 hour"),
        gettext_noop("6 hours"),
        gettext_noop("24 hours"),
        gettext_noop("7 days"),
        gettext_noop("30 days"),
        gettext_noop("90 days"),
        gettext_noop("nothing happened"),
        # roles
        gettext_noop("viewer"),
        gettext_noop("responder"),
        gettext_noop("editor"),
        gettext_noop("owner"),
        # the audit log: kinds of objects, actions, ways by which a change came
        gettext_noop("monitor"),
        gettext_noop("monitor environment"),
        gettext_noop("issue"),
        gettext_noop("incident"),
        gettext_noop("member"),
        gettext_noop("ingest key"),
        gettext_noop("user"),
        gettext_noop("group"),
        gettext_noop("channel"),
        gettext_noop("route"),
        gettext_noop("maintenance window"),
        gettext_noop("audit log"),
        gettext_noop("share link"),
        gettext_noop("preferences"),
        gettext_noop("saved view"),
        gettext_noop("created"),
        gettext_noop("changed"),
        gettext_noop("deleted"),
        gettext_noop("enabled"),
        gettext_noop("unmuted"),
        gettext_noop("snoozed"),
        gettext_noop("unsnoozed"),
        gettext_noop("added"),
        gettext_noop("removed"),
        gettext_noop("revoked"),
        gettext_noop("shared"),
        gettext_noop("replaced"),
        gettext_noop("address replaced"),
        gettext_noop("second factor reset"),
        gettext_noop("second factor added"),
        gettext_noop("second factor removed"),
        gettext_noop("second factor encrypted anew"),
        gettext_noop("recovery codes made anew"),
        gettext_noop("test sent"),
        gettext_noop("test accepted"),
        gettext_noop("test not accepted"),
        gettext_noop("encrypted anew"),
        gettext_noop("invitation"),
        gettext_noop("accepted"),
        gettext_noop("withdrawn"),
        gettext_noop("shown"),
        gettext_noop("exported"),
        gettext_noop("planned"),
        gettext_noop("ended"),
        gettext_noop("assigned"),
        gettext_noop("commented"),
        gettext_noop("admin"),
        gettext_noop("api"),
        gettext_noop("command"),
        gettext_noop("system"),
        gettext_noop("link"),
        gettext_noop("page"),
        # what opens without an account
        gettext_noop("status page"),
        gettext_noop("badge"),
        gettext_noop("TV view"),
        # ways to check in
        gettext_noop("curl: the job is done"),
        gettext_noop("curl: beginning, end and exit status"),
        gettext_noop("curl: ok or fail"),
        gettext_noop("curl: with what the job prints"),
        gettext_noop("Sentry check-in address"),
        gettext_noop("Ping URL by slug (Healthchecks)"),
        gettext_noop("Any job (curl)"),
        gettext_noop("Any command (sentry-cli)"),
    )
)


def setting(value: Any) -> Any:
    """Return the value of a setting of a monitor as people read it: a crontab that is to be learned is none yet."""
    return gettext("not known yet: it is learned") if value == LEARNING_CRONTAB else value


def word(text: str) -> str:
    """Return a word in the reader's language; one that is not known as it is."""
    return gettext(text) if text in WORDS else text

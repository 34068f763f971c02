"""A mail server that accepts and never answers keeps neither the clock nor anybody else's mail waiting.

All real processes, under the supervisor, with a clock that runs sixty times as fast.
"""

import threading
from datetime import timedelta

import pytest

from tests.e2e.watchclock import SPEED, running_watchclock
from tests.mailserver import HangError, running_mail_server

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("silent_mail_server")]

DEAF, AWAKE = "deaf@example.com", "awake@example.com"
EVERY_MINUTE = {"schedule": {"type": "crontab", "value": "* * * * *"}, "checkin_margin": 1}
SECONDS_LATE_MAX = 20
"""How late a tick may be outside: on a machine with much to do, and less than the 25 s that a mail may take."""
FINISHED = "SELECT at, finished_at FROM clocktasks_tick WHERE finished_at IS NOT NULL AND at > %(after)s ORDER BY at"


def test_the_clock_ticks_on_time_and_others_get_their_mail_while_the_mail_server_is_silent(tmp_path):
    silent = threading.Event()

    def deaf(word, recipient):
        if (word, recipient) == ("RCPT", DEAF):
            silent.set()
            raise HangError

    with (
        running_mail_server(deaf) as server,
        running_watchclock(
            tmp_path,
            EMAIL_URL=f"smtp://127.0.0.1:{server.port}",
            EMAIL_TIMEOUT_SECONDS="25",
            ALERT_EMAIL_TO=f"{DEAF},{AWAKE}",
        ) as watchclock,
    ):

        def begin(slug):
            watchclock.wait_until(
                lambda: watchclock.check_in(slug, status="ok", monitor_config=EVERY_MINUTE) == 202, f"{slug} is taken"
            )

        def is_told_of(slug):
            return any(f"] {slug} (" in mail["Subject"] for mail in server.mails_to(AWAKE))

        begin("first")
        watchclock.wait_until(silent.is_set, "the mail server falls silent")
        watchclock.wait_until(lambda: is_told_of("first"), "who can be reached is told of the first")

        begin("second")
        [newest] = watchclock.rows("SELECT max(at) AS at FROM clocktasks_tick")
        watchclock.wait_until(lambda: is_told_of("second"), "who can be reached is told of the second")
        ticks = watchclock.wait_until(
            lambda: found if len(found := watchclock.rows(FINISHED, after=newest["at"])) >= 5 else [],
            "five more ticks are over",
        )
        late = [tick["finished_at"] - tick["at"] for tick in ticks]

        assert max(late) <= SECONDS_LATE_MAX * SPEED * timedelta(seconds=1) + timedelta(minutes=1)
        assert server.mails_to(DEAF) == []
        assert watchclock.rows("SELECT FROM incidents_message WHERE recipient = %(to)s AND status = 'waiting'", to=DEAF)
        server.stopped.set()  # Or the worker would be waited for.

"""What a mail says comes from what is stored by the time it is written, however many mails are written together."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from incidents.models import Message, Occurrence
from incidents.notifications import claims
from incidents.notifications.alerts import write_alerts
from incidents.notifications.channels.mail import compose
from tests.factories import (
    NOW,
    CheckInFactory,
    CheckInLogFactory,
    IncidentFactory,
    MessageFactory,
    NotificationFactory,
    OccurrenceFactory,
)

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def claimed():
    """Claim all that is due and give it its texts."""
    messages = claims.claim_mails(limit=1_000, now=NOW)
    assert write_alerts(messages)[1] == []
    return messages


def body():
    [message] = claimed()
    return compose(message).body


def failed(status="error", **explanation):
    """An incident that a run with this end opened, whose mail is due; returns the run."""
    run = CheckInFactory(status=status)
    incident = IncidentFactory(starting_checkin=run, monitor_environment=run.monitor_environment)
    occurrence = OccurrenceFactory(incident=incident)
    Occurrence.objects.update(explanation=occurrence.explanation | explanation)
    MessageFactory(incident=incident)
    return run


# --- the log of the run


@pytest.mark.parametrize("status", ["error", "timeout"])
@pytest.mark.parametrize("sent", ["", "in_progress", "error"], ids=["apart", "with its start", "with its end"])
def test_what_the_failed_run_printed_is_in_the_mail(status, sent):
    CheckInLogFactory(checkin=failed(status), status=sent, body=b"copying\ndisk full\n")

    assert "The end of its log:\n\n  copying\n  disk full\n" in body()


def test_all_that_the_run_printed_comes_in_its_order():
    run = failed()
    for minute, text in ((2, b"last"), (0, b"first"), (1, b"second\n")):
        CheckInLogFactory(checkin=run, received_at=NOW + minute * MINUTE, body=text)

    assert "  first\n  second\n" in (said := body())
    assert said.index("second") < said.index("last")


def test_output_that_came_before_the_first_word_belongs_to_the_run_too():
    CheckInLogFactory(checkin=failed(), status="", received_at=NOW - 5 * MINUTE, body=b"early")

    assert "  early\n" in body()


def test_bytes_that_are_no_text_stop_no_mail():
    CheckInLogFactory(checkin=failed(), body=b"caf\xe9 \xff\xfe\x00 ok")

    assert "  caf\N{REPLACEMENT CHARACTER} " in body()


def test_of_a_large_log_the_end_is_read():
    CheckInLogFactory(checkin=failed(), body=b"x" * 90_000 + b"\nthe end")

    said = body()
    assert "  the end\n" in said
    assert len(said) < 2_500


def test_a_log_that_came_with_the_error_stays_when_the_stored_one_is_gone():
    failed(log_tail="disk full")

    assert "  disk full\n" in body()


def test_of_other_runs_no_log_is_shown():
    run = failed()
    CheckInLogFactory(monitor_environment=run.monitor_environment, body=b"a note")
    CheckInLogFactory(checkin=CheckInFactory(monitor_environment=run.monitor_environment), body=b"another run")
    CheckInLogFactory(guid=run.guid, body=b"another environment")

    assert "log" not in body()


def test_what_an_attempt_printed_that_succeeded_is_not_shown():
    CheckInLogFactory(checkin=failed(), status="ok", body=b"all is well")

    assert "all is well" not in body()


def test_a_miss_has_no_log():
    run = failed(kind="missed")
    CheckInLogFactory(checkin=run, body=b"of whom?")

    assert "of whom?" not in body()


# --- which occurrence, which end


def test_people_are_told_of_the_failure_that_opened_the_incident_not_of_a_later_one():
    run = failed(exit_status=3)
    [incident] = {message.incident for message in Message.objects.all()}
    later = CheckInFactory(
        monitor_environment=run.monitor_environment, status="error", date_added=NOW + MINUTE, received_at=NOW + MINUTE
    )
    OccurrenceFactory(incident=incident, checkin=later)

    assert "Exit status: 3" in body()


def test_an_incident_without_a_kept_occurrence_is_told_of_all_the_same():
    MessageFactory()

    assert "It has been failing since 2026-01-05 10:00 UTC." in body()


def test_an_end_says_after_how_long():
    incident = IncidentFactory(resolved=True)
    NotificationFactory(incident=incident, transition="resolved", created_at=NOW + 90 * MINUTE)
    MessageFactory(incident=incident, kind="resolved")

    assert "It recovered at 2026-01-05 11:30 UTC, after 1 hour and 30 minutes." in body()


def test_many_texts_take_as_many_statements_as_one():
    def statements(count):
        for occurrence in OccurrenceFactory.create_batch(count):
            MessageFactory(incident=occurrence.incident)
        with CaptureQueriesContext(
            connection,
        ) as context:
            assert len(claimed()) == count
        return len(context)

    assert statements(25) == statements(1)


def test_many_results_are_recorded_in_as_many_statements_as_one():
    def statements(count):
        for notification in NotificationFactory.create_batch(count):
            MessageFactory(incident=notification.incident)
        messages = claims.claim_mails(limit=count, now=NOW)
        with CaptureQueriesContext(connection) as context:
            assert claims.record_sent(messages, now=NOW) == count
        return len(context)

    assert statements(25) == statements(1)


def test_what_was_claimed_and_not_begun_is_given_back_as_it_was():
    MessageFactory(attempt_count=2)
    messages = claims.claim_mails(limit=1, now=NOW)

    claims.release(messages)

    message = Message.objects.get()
    assert (message.attempt_count, message.claimed_until, message.due_at) == (2, None, NOW)


def test_who_lost_his_claim_gives_nothing_back():
    MessageFactory()
    slow = claims.claim_mails(limit=1, now=NOW)
    [quick] = claims.claim_mails(limit=1, now=NOW + 2 * MINUTE)

    claims.release(slow)

    assert Message.objects.get().claimed_until == quick.claimed_until

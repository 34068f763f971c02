"""Messages that are stored for no run, each with the reason (pure)."""

from checkins.messages import CheckInMessage, Problem, ProblemKind


def mismatch(message: CheckInMessage) -> Problem:
    """Return the problem of an id that belongs to a run of another monitor or environment."""
    return Problem(
        ProblemKind.CHECKIN_ENVIRONMENT_MISMATCH,
        "check_in_id",
        str(message.check_in_id),
        f"check_in_id {message.check_in_id} belongs to a run of another monitor or environment of this project; "
        "each run needs an id of its own.",
    )


def finished(message: CheckInMessage, why: str) -> Problem:
    """Return the problem of a message about a run that is over; `why` says since when."""
    return Problem(
        ProblemKind.CHECKIN_FINISHED,
        "status",
        message.status.value,
        f"status {message.status.value!r} was sent for a run that is over ({why}); nothing was changed.",
    )

"""The order in which the messages of a batch are applied (pure)."""

import uuid
from collections.abc import Sequence

from checkins.messages import CheckInMessage, CheckInStatus


def causal_order(messages: Sequence[object]) -> list[int]:
    """Return the order in which to apply the messages of a batch, as indices: as received, but each run's in its own.

    The messages of one run (same project and id) share the places that they have, put in order by the clients' clock
    if all of them sent it, else with the opening message first: a process that ends at once sends both over several
    connections, and the end may overtake the beginning (D17).
    """
    runs: dict[tuple[int, uuid.UUID], list[int]] = {}
    for index, message in enumerate(messages):
        if isinstance(message, CheckInMessage) and message.check_in_id is not None:
            runs.setdefault((message.project_id, message.check_in_id), []).append(index)
    order = list(range(len(messages)))
    for places in runs.values():
        if len(places) == 1:
            continue
        checkins = [(place, message) for place in places if isinstance(message := messages[place], CheckInMessage)]
        sent = [(message.sent_at, place) for place, message in checkins if message.sent_at is not None]
        if len(sent) == len(checkins):
            in_order = [place for _, place in sorted(sent)]
        else:
            in_order = [
                place
                for place, _ in sorted(
                    checkins, key=lambda one: (one[1].status is not CheckInStatus.IN_PROGRESS, one[0])
                )
            ]
        for place, index in zip(places, in_order, strict=True):
            order[place] = index
    return order

"""Whatever is sent, ingest answers without an error of ours, and what it took can be read back and shown.

The whole way but for the sockets: edge, intake, PostgreSQL. `make fuzz` looks for longer, and elsewhere each time.
"""

import itertools
import logging
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager

import msgspec
import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from hypothesis import HealthCheck, given
from hypothesis import settings as search
from hypothesis import strategies as st

from checkins.exceptions import IngestError
from checkins.ingest.spool_directory import open_spool
from checkins.messages import Message
from checkins.models import CheckIn, CheckInLog, ClientLossReport, ProcessingError, WaitingCheckIn
from checkins.processing.batch import take
from checkins.processing.limits import limits
from checkins.processing.reading import Reading
from checkins.processing.retry import retry_failed
from checkins.processing.waiting import restored, store_failed
from checkins.protocols.request import Answer, IngestRequest, KnownSender
from checkins.protocols.routes import find_route
from drills.damage import damage
from lib.wallclock import utcnow
from monitors.models import Monitor
from tests.checkins.ingest.web import Batcher, Submitted, run_edge, scope_of
from tests.factories import NOW, IngestKeyFactory, MonitorFactory, ProjectFactory
from tests.fuzz.strategies import GUID, KEY, PROJECT_ID, SLUG, Sent, anything, spoilt_columns

pytestmark = pytest.mark.django_db

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
"""How long the properties of this file and of test_rows.py look together; 0 for a few hundred examples."""
PROPERTIES = 6
SHARES = [1.0] if SECONDS else [0.2, pytest.param(0.5, marks=pytest.mark.long)]
"""Which part of its examples a property is tried with: some of them at each change."""
CPU_SECONDS_MAX = 10.0
"""What one request may cost (D34, D35). The largest ones take half a second; one search for the next time of a sparse
crontab once took sixteen."""
KEPT_IN = (CheckIn, CheckInLog, ClientLossReport, ProcessingError, WaitingCheckIn)


@pytest.fixture(autouse=True)
def known():
    """The project, the key and the monitor that the requests name."""
    project = ProjectFactory(id=PROJECT_ID)
    IngestKeyFactory(project=project, public_key=KEY)
    MonitorFactory(project=project, slug=SLUG, guid=GUID)


def look_for(examples: int, prove: Callable[[], None]) -> None:
    """Run a property with so many examples; in `make fuzz` with other ones again until its time is over."""
    until = time.monotonic() + SECONDS / PROPERTIES
    searching = search(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )(prove)
    while True:
        searching()
        if time.monotonic() >= until:
            return


@contextmanager
def undone() -> Iterator[None]:
    """Undo in the database what is done here, after a look at the constraints that are checked at the end."""
    with transaction.atomic():
        yield
        connection.check_constraints()
        transaction.set_rollback(True)


@contextmanager
def nothing_is_logged() -> Iterator[None]:
    """What ingest catches to save the others (D14) is an error of ours all the same, and it logs each."""
    records: list[logging.LogRecord] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    handler = Collect(logging.WARNING)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)
    for record in records:
        if record.exc_info and record.exc_info[1]:
            raise AssertionError(record.getMessage()) from record.exc_info[1]
    assert records == []


def read_by_the_edge(sent: Sent) -> IngestRequest | tuple[int, bytes]:
    """Return what the edge makes of a request, or its answer if it does not even pass it on."""
    scope = scope_of(sent.method, sent.path, sent.query, sent.headers)
    try:
        start, body = run_edge(Batcher(), scope, sent.chunks, sent.end)
    except Submitted as submitted:
        return submitted.request
    return start["status"], body


def answered_by_the_edge(sent: Sent, answer: Answer) -> int:
    """Return the status that goes out for an answer, if all of it can go out."""
    start, body = run_edge(
        Batcher(answer), scope_of(sent.method, sent.path, sent.query, sent.headers), sent.chunks, sent.end
    )
    assert all(isinstance(part, bytes) and b"\n" not in part for header in start["headers"] for part in header)
    assert sent.method == "HEAD" or dict(start["headers"])[b"content-length"] == str(len(body)).encode()
    status: int = start["status"]
    return status


def passed_on(requests: Sequence[Sent]) -> list[tuple[Sent, IngestRequest]]:
    """Return the requests that the edge passes on; the others got their answers."""
    read = []
    for sent in requests:
        request = read_by_the_edge(sent)
        if isinstance(request, IngestRequest):
            read.append((sent, request))
        else:
            # No address of ours, or a large body whose sender is not known: answered before it is read to its end.
            assert request[0] in (204, 400, 401, 403, 404, 405, 413)
    return read


def messages_in(request: IngestRequest) -> Sequence[Message]:
    """Return what a request says, if its sender is known."""
    found = find_route(request.path)
    assert found is not None, "the edge answers those itself"
    protocol, address = found
    try:
        protocol.identify(request, address, limits())
    except IngestError:
        return ()
    slug = SLUG if "guid" in address else None
    return protocol.decode(request, address, KnownSender(PROJECT_ID, slug, slug), limits()).messages


def alike(value: object) -> object:
    """Return a message with all numbers as floats: jsonb knows decimals only, and gives 4e+16 back as an integer."""
    if isinstance(value, Message):
        return type(value), alike(msgspec.to_builtins(value, order="deterministic"))
    if isinstance(value, Mapping):
        return {name: alike(member) for name, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [alike(member) for member in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def rows() -> int:
    return sum(model._default_manager.count() for model in KEPT_IN)


@pytest.mark.parametrize("share", SHARES)
def test_every_request_gets_an_answer_and_what_was_taken_is_stored(share):
    @given(st.lists(anything, min_size=1, max_size=4), spoilt_columns)
    def prove(requests: list[Sent], columns: dict[str, str]) -> None:
        with undone(), nothing_is_logged():
            Monitor.objects.filter(slug=SLUG).update(**columns)  # As no form lets them be (D37).
            for sent, request in passed_on(requests):
                before, began = rows(), time.thread_time()
                [answer] = take([request], now=request.received_at)
                assert time.thread_time() - began < CPU_SECONDS_MAX
                status = answered_by_the_edge(sent, answer)
                assert status < 300 or (400 <= status < 500 and status != 429)
                if status < 300 and messages_in(request) and before == 0:
                    assert rows() > 0
                is_kept, unheard = Reading(request).answer_unverified()
                if status < 300:  # Spooled, it would have got its success too.
                    assert unheard.status < 300
                    assert is_kept == bool(messages_in(request))
            assert not WaitingCheckIn.objects.filter(reason="failed").exists()

    look_for(int(200 * share), prove)


@pytest.mark.parametrize("share", SHARES)
def test_batches_are_applied_whole_whatever_is_in_them(share):
    @given(st.lists(anything, min_size=2, max_size=6))
    def prove(requests: list[Sent]) -> None:
        with undone(), nothing_is_logged():
            read = [request for _, request in passed_on(requests)]
            while read:
                answers = take(read, now=NOW)  # what fits (D35)
                for answer in answers:
                    assert answer.status < 300 or (400 <= answer.status < 500 and answer.status != 429)
                read = read[len(answers) :]

    look_for(int(80 * share), prove)


@pytest.mark.parametrize("share", SHARES)
def test_the_spool_gives_back_what_the_edge_made(tmp_path, share):
    spool = open_spool(tmp_path, bytes_max=1 << 30)

    @given(st.lists(anything, min_size=1, max_size=4))
    def prove(requests: list[Sent]) -> None:
        read = [request for _, request in passed_on(requests)]
        spool.append([(request, None) for request in read])
        entries = spool.first(10)
        assert [entry.request for entry in entries] == read
        if entries:
            spool.forget(entries[-1].seq)

    look_for(int(60 * share), prove)
    spool.close()


@pytest.mark.parametrize("share", SHARES)
def test_d43_a_spool_gives_up_its_damaged_pages_and_nothing_else(tmp_path, share):
    """Only pages of the requests that the drill takes for abuse are damaged: the others have its innocent mark."""
    numbers = itertools.count()

    def innocent(requests: Sequence[Sent]) -> list[IngestRequest]:
        return [msgspec.structs.replace(one, method=f"job-{one.method}") for _, one in passed_on(requests)]

    @given(st.lists(anything, max_size=3), st.lists(anything, max_size=3), st.integers(3, 40), st.integers(0, 2**32))
    def prove(earlier: list[Sent], later: list[Sent], count: int, seed: int) -> None:
        directory = tmp_path / str(next(numbers))
        before, abuse, after = innocent(earlier), [a_page_of_abuse(n) for n in range(count)], innocent(later)
        with closing(open_spool(directory, bytes_max=1 << 30)) as spool:
            for part in (before, abuse, after):
                spool.append([(request, None) for request in part])
        damaged = damage(spool.path, random.Random(seed))  # noqa: S311 - repeatable, and no secret
        assert damaged > 0
        with closing(open_spool(directory, bytes_max=1 << 30)) as spool:
            read = [entry.request for entry in spool.first(1_000)]
            assert [one for one in read if one not in abuse] == [*before, *after]
            assert [one for one in abuse if one in read] == [one for one in read if one in abuse]
            assert len(read) == len(before) + count - damaged + len(after)
            for one in abuse:
                assert one in read or any(since <= one.received_at <= until for since, until in spool.lost)
            spool.append([(request, None) for request in after])
            assert [entry.request for entry in spool.first(1_000)] == [*read, *after]
        shutil.rmtree(directory)

    look_for(int(40 * share), prove)


def a_page_of_abuse(number: int) -> IngestRequest:
    """A request that has a page of a spool for itself."""
    body = b"spooled-abuse" * 230
    return IngestRequest(
        method="POST",
        path=f"/{number}",
        query="",
        headers={},
        body=body,
        body_bytes=len(body),
        received_at=utcnow(),
    )


@pytest.mark.parametrize("share", SHARES)
def test_what_is_stored_can_be_read_back_and_shown(share):
    client = Client()
    client.force_login(User.objects.create_superuser("looker"))

    @given(anything)
    def prove(sent: Sent) -> None:
        with undone(), nothing_is_logged():
            for _, request in passed_on([sent]):
                for message in messages_in(request):
                    store_failed(message, ValueError("7"))
                    row = WaitingCheckIn.objects.latest("id")
                    assert [alike(again) for again in restored(row, limits())] == [alike(message)]
                failed = list(WaitingCheckIn.objects.values_list("id", flat=True))
                if failed:
                    is_shown(client, "waitingcheckin", failed[-1])
                assert retry_failed(failed, now=request.received_at) == (len(failed), 0)
            for model in KEPT_IN:
                newest = model._default_manager.order_by("-pk").values_list("pk", flat=True).first()
                if newest is not None and model is not CheckInLog:  # It is shown with its run.
                    is_shown(client, model.__name__.lower(), newest)

    look_for(int(40 * share), prove)


def is_shown(client: Client, model: str, key: int) -> None:
    response = client.get(reverse(f"admin:checkins_{model}_change", args=[key]))
    assert response.status_code == 200
    response.content.decode()

"""The stream of events, as a browser gets it."""

import asyncio

import pytest
from django.conf import settings
from django.test import Client

from dashboard.live import stream
from dashboard.live.hub import Hub
from dashboard.live.marks import read_mark
from tests import factories

PATIENCE_SECONDS = 20
COOKIE = b"sessionid=x"


async def ask(streams, *, until, headers=(), query=b"", method="GET"):
    """Ask for events until a condition about the answer holds, then go. Returns the status and the text."""
    sent, gone = [], asyncio.Event()

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(event):
        sent.append(event)
        if until(sent):
            gone.set()

    scope = {"method": method, "headers": [(b"cookie", COOKIE), *headers], "query_string": query}
    await streams.answer(scope, receive, send)
    return sent[0]["status"], b"".join(event.get("body", b"") for event in sent[1:]).decode()


def run(story):
    return asyncio.run(asyncio.wait_for(story, PATIENCE_SECONDS))


def streams_of(mark, *, person=7):
    return stream.Streams(Hub(lambda: mark, poll_seconds=0.01), user_of=lambda cookie: person if cookie else None)


def body_has(text):
    return lambda sent: any(text in event.get("body", b"") for event in sent)


def never(_sent):
    return False


def test_an_event_has_the_mark_as_its_id():
    status, text = run(ask(streams_of("5-1-1"), until=body_has(b"data:")))
    assert (status, text) == (200, "retry: 3000\n\nid: 5-1-1\ndata: 5-1-1\n\n")


@pytest.mark.parametrize(
    "has", [{"headers": [(b"last-event-id", b"5-1-1")]}, {"query": b"since=5-1-1"}], ids=["last event", "page"]
)
def test_a_viewer_that_has_the_mark_waits(has, monkeypatch):
    monkeypatch.setattr(Hub.marks, "__kwdefaults__", {"quiet_seconds": 0.05})
    _, text = run(ask(streams_of("5-1-1"), until=body_has(b"still here"), **has))
    assert "data:" not in text


def test_a_stream_ends_after_its_life_and_the_browser_comes_again(monkeypatch):
    monkeypatch.setattr(stream, "LIFE_SECONDS", 0.0)
    status, text = run(ask(streams_of("5-1-1"), until=never))
    assert (status, "data: 5-1-1" in text) == (200, True)


@pytest.mark.parametrize(("method", "person", "expected"), [("POST", 7, 405), ("GET", None, 204)])
def test_who_may_not_gets_no_stream(method, person, expected):
    status, text = run(ask(streams_of("1", person=person), until=never, method=method))
    assert (status, "data:" in text) == (expected, False)


def test_one_person_has_a_bounded_number_of_streams(monkeypatch):
    monkeypatch.setattr(stream, "STREAMS_PER_PERSON_MAX", 1)

    async def story():
        streams, first_has_begun, first_may_go = streams_of("1"), asyncio.Event(), asyncio.Event()

        async def receive():
            await first_may_go.wait()
            return {"type": "http.disconnect"}

        async def send(event):
            first_has_begun.set()

        scope = {"method": "GET", "headers": [(b"cookie", COOKIE)], "query_string": b""}
        first = asyncio.create_task(streams.answer(scope, receive, send))
        await first_has_begun.wait()
        assert (await ask(streams, until=never))[0] == 204
        first_may_go.set()
        await first
        assert (await ask(streams, until=body_has(b"data:")))[0] == 200

    run(story())


@pytest.mark.django_db(transaction=True)
def test_the_session_says_who_asks():
    user = factories.UserFactory()
    client = Client()
    client.force_login(user)
    cookie = f"a=b; {settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}".encode()
    assert stream.person_with_session(cookie) == user.pk
    user.is_active = False
    user.save()
    assert stream.person_with_session(cookie) is None
    for wrong in (b"", b"sessionid=nonsense", b"\xff;;=", b"sessionid=", b'sessionid="a\\000b"'):
        assert stream.person_with_session(wrong) is None


@pytest.mark.django_db
def test_the_mark_changes_with_ticks_incidents_and_what_people_do():
    marks = [read_mark()]
    factories.TickFactory(finished_at=None)
    assert read_mark() == marks[0], "a tick that is not finished is nothing to see"
    factories.TickFactory()
    marks.append(read_mark())
    factories.NotificationFactory()
    marks.append(read_mark())
    factories.AuditEntryFactory()
    marks.append(read_mark())
    assert len(set(marks)) == 4

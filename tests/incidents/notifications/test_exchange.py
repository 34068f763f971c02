"""Messages to receivers on real sockets that answer as they like."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
import trustme

from incidents.notifications import guard
from incidents.notifications.channels.base import Request, SendResultKind, outcome
from incidents.notifications.exchange import open_session, send
from tests.incidents.notifications.channels.alerts import LOOPBACK, exchange
from tests.incidents.notifications.channels.receiver import reply, running_receiver
from tests.waiting import wait_until

TOKEN = "a-token-of-24-characters"
SHORT = 0.5


def request(url, **changes):
    facts = {"method": "POST", "url": url, "headers": {"x-key": TOKEN}, "body": b"{}", "secrets": (TOKEN,)}
    return Request(**facts | changes)


def tell(url, *, seconds=10.0, allowed=LOOPBACK, count=1, classify=outcome):
    return exchange((request(url),) * count, classify, allowed=allowed, seconds=seconds)


@pytest.fixture
def receiver():
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


class TestAnswers:
    def test_the_request_arrives_as_it_was_made(self, receiver):
        assert tell(f"{receiver.url}/a?b=c").kind is SendResultKind.DELIVERED
        [received] = receiver.received
        assert (received.method, received.path, received.body) == ("POST", "/a?b=c", b"{}")
        assert received.headers["x-key"] == TOKEN
        assert received.headers["user-agent"].startswith("Watchclock/")
        assert "cookie" not in received.headers

    def test_requests_are_sent_one_after_the_other(self, receiver):
        assert tell(receiver.url, count=3).kind is SendResultKind.DELIVERED
        assert len(receiver.received) == len(receiver.connections) == 3

    def test_nothing_follows_a_request_that_was_not_delivered(self, receiver):
        receiver.answer = lambda _: reply(503)
        assert tell(receiver.url, count=3).kind is SendResultKind.TRANSIENT
        assert len(receiver.received) == 1

    def test_the_first_reference_is_the_one_to_remember(self, receiver):
        receiver.answer = lambda _: reply(200, str(len(receiver.received)))
        found = tell(receiver.url, count=2, classify=lambda asked, said: outcome(asked, said, ref=said.body.decode()))
        assert found.external_ref == "1"

    def test_no_more_than_the_beginning_of_an_endless_answer_is_read(self, receiver):
        def endless(_):
            yield b"HTTP/1.1 200 OK\r\n\r\n"
            while not receiver.stopped.is_set():
                yield b"x" * 65_536

        receiver.answer = endless
        found = tell(receiver.url, classify=lambda asked, said: outcome(asked, said, ref=str(len(said.body))))
        assert found.external_ref == "4096"

    def test_a_redirect_is_not_followed(self, receiver):
        receiver.answer = lambda _: reply(302, headers={"Location": f"{receiver.url}/elsewhere?token=abc"})
        found = tell(receiver.url)
        assert found.kind is SendResultKind.CONFIGURATION
        assert found.excerpt == "302 redirects to http://127.0.0.1, which is not followed"
        assert len(receiver.received) == 1

    def test_cookies_are_not_kept(self, receiver):
        receiver.answer = lambda _: reply(200, headers={"Set-Cookie": "session=1"})
        tell(receiver.url, count=2)
        assert ["cookie" in received.headers for received in receiver.received] == [False, False]

    def test_a_proxy_of_the_environment_is_not_used(self, receiver, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        assert tell(receiver.url).kind is SendResultKind.DELIVERED

    def test_a_secret_that_comes_back_is_not_shown(self, receiver):
        receiver.answer = lambda received: reply(400, f"bad key {received.headers['x-key']}")
        assert tell(receiver.url).excerpt == "400 bad key ***"

    def test_what_a_channel_shows_itself_is_redacted_too(self, receiver):
        def careless(asked, said):
            return outcome(asked, said, why=f"with {TOKEN}")

        assert TOKEN not in tell(receiver.url, classify=careless).excerpt

    def test_a_channel_that_fails_to_read_an_answer_fails_one_message(self, receiver, caplog):
        def broken(asked, said):
            raise KeyError(TOKEN)

        found = exchange((request(receiver.url),), broken)
        assert (found.kind, found.excerpt) == (SendResultKind.UNKNOWN, "an unexpected error: KeyError")
        assert "an answer of http://127.0.0.1 cannot be read" in caplog.text
        assert TOKEN not in caplog.text

    def test_nothing_to_send_is_delivered(self):
        assert exchange((), outcome).kind is SendResultKind.DELIVERED


class TestDeadlines:
    @contextmanager
    def within(self, seconds):
        began = time.monotonic()
        yield
        assert time.monotonic() - began < seconds

    def test_a_receiver_that_does_not_answer(self, receiver):
        receiver.answer = lambda _: receiver.hang()
        with self.within(5):
            found = tell(receiver.url, seconds=SHORT)
        assert (found.kind, found.excerpt) == (SendResultKind.UNKNOWN, "no answer within 0.5 s")

    def test_headers_that_drip(self, receiver):
        receiver.answer = lambda _: receiver.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000)
        with self.within(5):
            assert tell(receiver.url, seconds=SHORT).kind is SendResultKind.UNKNOWN

    def test_a_body_that_drips_after_a_status_that_counts(self, receiver):
        def drip(_):
            yield b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
            yield from receiver.drip(b"x" * 1_000)

        receiver.answer = drip
        with self.within(5):
            assert tell(receiver.url, seconds=SHORT).kind is SendResultKind.DELIVERED

    def test_the_deadline_is_that_of_all_requests_together(self, receiver):
        receiver.answer = lambda _: list(receiver.drip(b"HTTP/1.1 200 OK\r\n\r\n", 0.01))
        with self.within(5):
            assert tell(receiver.url, seconds=SHORT, count=100).kind is SendResultKind.UNKNOWN
        assert len(receiver.received) < 10

    def test_a_host_that_takes_no_connections(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            full = [socket.socket() for _ in range(8)]
            for line in full:
                line.setblocking(False)
                line.connect_ex(("127.0.0.1", port))
            with self.within(5):
                found = tell(f"http://127.0.0.1:{port}/", seconds=SHORT)
            for line in full:
                line.close()
        assert (found.kind, found.excerpt) == (SendResultKind.TRANSIENT, "no connection within 0.5 s")

    def test_a_hanging_receiver_delays_no_other(self, receiver):
        receiver.answer = lambda received: receiver.hang() if received.path == "/slow" else reply(200)

        async def both():
            async with open_session(LOOPBACK) as session:

                async def one(path):
                    message = (request(receiver.url + path),)
                    return await send(message, classify=outcome, session=session, deadline=timedelta(minutes=5))

                slow = [asyncio.create_task(one("/slow")) for _ in range(30)]
                found = await asyncio.gather(*(one("/") for _ in range(30)))
                waiting = [task for task in slow if not task.done()]
                for task in slow:
                    task.cancel()
                await asyncio.gather(*slow, return_exceptions=True)
                return {one.kind for one in found}, len(waiting)

        assert asyncio.run(both()) == ({SendResultKind.DELIVERED}, 30)

    def test_cancelling_is_not_taken_for_an_error(self, receiver):
        receiver.answer = lambda _: receiver.hang()

        async def cancelled():
            async with open_session(LOOPBACK) as session:
                sending = asyncio.create_task(send((request(receiver.url),), classify=outcome, session=session))
                await asyncio.to_thread(wait_until, lambda: receiver.received, "it came")
                sending.cancel()
                await sending

        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancelled())


class TestConnections:
    def test_a_refused_connection_was_not_sent(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/{TOKEN}"
        found = tell(url)
        assert (found.kind, found.excerpt) == (SendResultKind.TRANSIENT, "no connection: Connection refused")

    @pytest.mark.parametrize("pieces", [[], [b"HTTP/1.1 2"], [b"nonsense\r\n\r\n"]])
    def test_a_connection_that_ends_without_an_answer_may_have_told(self, receiver, pieces):
        receiver.answer = lambda _: pieces
        found = tell(receiver.url)
        assert (found.kind, found.excerpt) == (SendResultKind.UNKNOWN, "the connection ended without an answer")

    def test_a_connection_that_ends_in_the_body_counts_by_its_status(self, receiver):
        receiver.answer = lambda _: [b"HTTP/1.1 503 Down\r\nContent-Length: 100\r\n\r\nhalf"]
        found = tell(receiver.url)
        assert (found.kind, found.excerpt) == (SendResultKind.TRANSIENT, "503 half")

    @pytest.mark.parametrize(
        ("code", "kind"),
        [(socket.EAI_AGAIN, SendResultKind.TRANSIENT), (socket.EAI_NONAME, SendResultKind.CONFIGURATION)],
    )
    def test_a_name_that_is_not_found_is_told_from_a_name_server_that_is_down(self, code, kind, monkeypatch):
        def fail(*_, **__):
            raise socket.gaierror(code, "no")

        monkeypatch.setattr(socket, "getaddrinfo", fail)
        assert tell(f"https://hooks.invalid/{TOKEN}").kind is kind

    @pytest.mark.parametrize(
        "url", ["http://", "ftp://w.example/", "nonsense", f"http://{'x' * 70}.example/", "http://[::1"]
    )
    def test_an_invalid_address_is_a_configuration(self, url):
        assert tell(url).kind is SendResultKind.CONFIGURATION

    def test_a_header_with_a_line_break_is_not_sent(self, receiver):
        bad = request(receiver.url, headers={"x-key": "a\r\nx-other: b"})
        assert exchange((bad,), outcome).kind is SendResultKind.CONFIGURATION
        assert receiver.received == []


class TestTheInside:
    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "127.1", "[::ffff:127.0.0.1]"])
    def test_it_is_refused_before_connecting_however_it_is_written(self, receiver, host):
        found = tell(receiver.url.replace("127.0.0.1", host), allowed=[])
        assert found.kind is SendResultKind.CONFIGURATION
        assert receiver.connections == []

    def test_the_words_are_the_same_whether_something_listens_or_not(self, receiver):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            closed = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        assert tell(receiver.url, allowed=[]) == tell(closed, allowed=[])
        assert tell(closed, allowed=[]).excerpt == guard.REFUSAL

    def test_an_answer_from_an_allowed_network_inside_is_marked(self, receiver, monkeypatch):
        assert tell(receiver.url).is_inside
        monkeypatch.setattr(guard, "may_be_reached", lambda *_: True)
        assert not tell(receiver.url).is_inside

    def test_a_name_with_several_addresses_is_tried_at_those_outside(self, receiver, monkeypatch):
        port = int(receiver.url.rpartition(":")[2])
        self.resolve(monkeypatch, ["10.0.0.1", "169.254.169.254", "127.0.0.1"], port)
        assert tell(f"http://hooks.example:{port}/").kind is SendResultKind.DELIVERED
        assert receiver.received[0].headers["host"] == f"hooks.example:{port}"

    def test_a_name_with_only_addresses_inside_is_refused(self, monkeypatch):
        self.resolve(monkeypatch, ["10.0.0.1", "192.168.0.1"], 80)
        found = tell("http://hooks.example/")
        assert (found.kind, found.excerpt) == (SendResultKind.CONFIGURATION, guard.REFUSAL)

    def test_a_name_is_judged_anew_for_each_request(self, receiver, monkeypatch):
        port = int(receiver.url.rpartition(":")[2])
        answers = iter(["127.0.0.1", "10.0.0.1"])
        self.resolve(monkeypatch, answers, port)
        found = tell(f"http://hooks.example:{port}/", count=2)
        assert (found.kind, len(receiver.received)) == (SendResultKind.CONFIGURATION, 1)

    def resolve(self, monkeypatch, addresses, port):
        def look_up(*_, **__):
            found = [next(addresses)] if not isinstance(addresses, list) else addresses
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)


class TestThroughAProxy:
    @pytest.fixture(autouse=True)
    def proxy(self, receiver, settings):
        settings.NOTIFY_PROXY = receiver.url

    def test_only_the_proxy_is_connected_to_and_it_may_be_inside(self, receiver):
        assert tell("http://hooks.example/a", allowed=[]).kind is SendResultKind.DELIVERED
        assert [received.path for received in receiver.received] == ["http://hooks.example/a"]

    @pytest.mark.parametrize(
        ("status", "kind"),
        [(403, SendResultKind.CONFIGURATION), (407, SendResultKind.CONFIGURATION), (502, "transient")],
    )
    def test_what_the_proxy_refuses_is_said_in_words(self, receiver, status, kind):
        receiver.answer = lambda _: reply(status)
        found = tell("https://hooks.example/a", allowed=[])
        assert (found.kind, found.excerpt) == (kind, f"the proxy (NOTIFY_PROXY) does not connect: {status}")
        assert [received.method for received in receiver.received] == ["CONNECT"]

    def test_a_proxy_that_is_away_is_tried_again_later(self, settings):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            settings.NOTIFY_PROXY = f"http://127.0.0.1:{listener.getsockname()[1]}"
        found = tell("http://hooks.example/a")
        assert (found.kind, found.excerpt) == (SendResultKind.TRANSIENT, "no connection to the proxy (NOTIFY_PROXY)")


class TestCertificates:
    def tell(self, url, trusted=None):
        async def run():
            async with open_session(LOOPBACK) as session:
                if trusted is not None:
                    vars(session.connector)["_ssl"] = trusted
                return await send((request(url),), classify=outcome, session=session)

        return asyncio.run(run())

    def serving(self, authority, name):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        return running_receiver(tls=context)

    def trusting(self, authority):
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    def test_an_unknown_authority_is_not_trusted(self, authority):
        with self.serving(authority, "127.0.0.1") as receiver:
            found = self.tell(receiver.url)
        assert found.kind is SendResultKind.CONFIGURATION
        assert found.excerpt.startswith("the certificate is not accepted: ")
        assert receiver.received == []

    def test_a_certificate_for_another_name_is_not_accepted(self, authority):
        with self.serving(authority, "other.example") as receiver:
            found = self.tell(receiver.url, self.trusting(authority))
        assert found.kind is SendResultKind.CONFIGURATION
        assert receiver.received == []

    def test_a_certificate_of_a_trusted_authority_is_accepted(self, authority):
        with self.serving(authority, "127.0.0.1") as receiver:
            assert self.tell(receiver.url, self.trusting(authority)).kind is SendResultKind.DELIVERED

    def test_a_receiver_that_speaks_no_tls(self, receiver):
        found = self.tell(receiver.url.replace("http:", "https:"))
        assert found.kind is SendResultKind.CONFIGURATION


def test_the_other_processes_do_not_load_aiohttp():
    modules = "project.asgi, incidents.tasks, checkins.ingest.process"
    program = f"import sys, django; django.setup(); import {modules}; print('aiohttp' in sys.modules)"
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert found.stdout == "False\n"

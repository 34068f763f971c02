"""Services through Apprise: what may be used, what is sent, and what its process does with services that misbehave."""

import asyncio
import os
import subprocess
import sys
import time

import msgspec
import pytest

from incidents.notifications import apprise_process, guard
from incidents.notifications.alert import Event
from incidents.notifications.channels import apprise
from incidents.notifications.channels.base import Answer, Request, SendResultKind
from incidents.notifications.exchange import open_session, send
from tests.incidents.notifications.channels.alerts import LOOPBACK, NOW, alert, exchange, target
from tests.incidents.notifications.channels.receiver import reply, running_receiver
from tests.waiting import wait_until

TOKEN = "4a2b8c16d0e24f7c9a1b3c5d7e9f0a1b"
SERVICES = {
    "Mattermost": "mmost://{host}/" + TOKEN,
    "Rocket.Chat": "rocket://" + TOKEN + "/" + TOKEN + "@{host}/%23ops/?mode=webhook",
    "Gotify": "gotify://{host}/" + TOKEN,
    "Matrix": "matrix://" + TOKEN * 2 + "@{host}/?mode=matrix",
    "Signal": "signal://{host}/+15551234567/+15557654321",
}


@pytest.fixture(autouse=True)
def loopback(settings):
    settings.NOTIFY_ALLOWED_NETWORKS = LOOPBACK


@pytest.fixture
def receiver():
    with running_receiver(lambda _: reply(200, {"id": 1, "success": True})) as receiver:
        yield receiver


def requests(url, event=Event.OPENED, **changes):
    return apprise.requests(alert(event, **changes), target("apprise", {"url": url}), "", now=NOW)


def tell(url, event=Event.OPENED, *, seconds=None, **changes):
    if seconds is not None:
        return exchange(requests(url, event, **changes), apprise.classify, seconds=seconds)

    async def run():
        async with open_session(LOOPBACK) as session:
            return await send(requests(url, event, **changes), classify=apprise.classify, session=session)

    return asyncio.run(run())


def host(receiver):
    return receiver.url.removeprefix("http://")


class TestWhatMayBeUsed:
    @pytest.mark.parametrize(
        ("url", "words"),
        [
            ("mmosts://mattermost.example/token", ""),
            ("MMOSTS://mattermost.example/token?channel=ops&image=no", ""),
            ("gotify://gotify.example/token?priority=high", ""),
            ("syslog://", "not one Apprise URL"),
            ("syslog://local", "not one of the services"),
            ("dbus://x", "not one of the services"),
            ("fcm://project@key/?keyfile=/etc/passwd", "not one of the services"),
            ("file:///etc/passwd", "not one of the services"),
            ("discord://id/token", "channel of its own, which can do more: Discord"),
            ("json://host/", "channel of its own, which can do more: Webhook"),
            ("mailtos://user:password@example.com", "E-mail"),
            ("nonsense", "not one Apprise URL"),
            ("gotify://a/token, gotify://b/token", "not one Apprise URL"),
            ("gotify://a/token,gotify://b/token", "several URLs"),
            ("gotify://" + "a" * 1_000, "not one Apprise URL"),
        ],
    )
    def test_an_address(self, url, words):
        found = apprise.problems({"url": url})
        assert words in found.get("url", "")
        assert bool(found) is bool(words)

    @pytest.mark.parametrize("option", sorted(apprise.REFUSED_OPTIONS))
    @pytest.mark.parametrize("form", ["?{}=x", "?a=b&{}=x", "?A=b;{}=x", "?-{}=x", "%3f{}=x"])
    def test_options_that_weaken_what_is_promised_are_refused_however_they_are_written(self, option, form):
        encoded = f"%{ord(option[0]):02x}{option[1:]}"
        for name in (option, option.upper(), encoded):
            found = apprise.problems({"url": f"gotify://gotify.example/token{form.format(name)}"})
            assert option in found["url"]

    def test_problems_do_not_repeat_the_secret(self):
        for url in (f"syslog://{TOKEN}", f"gotify://a/{TOKEN}?verify=no", f"slack://{TOKEN}", f"{TOKEN}"):
            assert TOKEN not in apprise.problems({"url": url})["url"]

    def test_every_service_that_may_be_used_is_known_to_the_package(self):
        asking = "from apprise.manager_plugins import NotificationManager as N; print(*N().schemas())"
        shown = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", asking], capture_output=True, text=True, check=True
        )
        assert set(shown.stdout.split()) >= apprise.SCHEMAS
        assert not apprise.SCHEMAS & apprise.OWN.keys()


class TestWhatIsSent:
    def test_the_text_mentions_nobody(self):
        [request] = requests("gotify://gotify.example/token", title="@here @all @**all** mail ada@example.com")
        assert "@\u200bhere @\u200ball @\u200b**all** mail ada@example.com" in request.body.decode()

    @pytest.mark.parametrize(
        ("event", "kind"),
        [(Event.OPENED, "failure"), (Event.RESOLVED, "success"), (Event.ACKNOWLEDGED, "warning"), (Event.TEST, "info")],
    )
    def test_the_type_tells_good_news_from_bad(self, event, kind):
        [request] = requests("gotify://gotify.example/token", event)
        assert f'"type":"{kind}"' in request.body.decode()

    def test_its_url_is_not_shown(self):
        [request] = requests(f"gotify://gotify.example/{TOKEN}")
        assert TOKEN not in repr(request)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_gets_the_headline_and_the_reason(receiver, service):
    outcome = tell(SERVICES[service].format(host=host(receiver)))
    assert (outcome.kind, outcome.excerpt) == (SendResultKind.DELIVERED, "Apprise has sent it.")
    sent = " ".join(received.body.decode() for received in receiver.received).replace("\\", "")  # Markdown's escapes.
    assert "nightly-backup (production) is failing" in sent
    assert "no check-in by 03:10" in sent


class TestServicesThatMisbehave:
    def gotify(self, receiver):
        return f"gotify://{host(receiver)}/{TOKEN}"

    def test_a_failure_may_pass_and_its_words_are_shown_without_the_secret(self, receiver):
        receiver.answer = lambda received: reply(503, f"no {received.headers.get('x-gotify-key')}")
        found = tell(self.gotify(receiver))
        assert found.kind is SendResultKind.TRANSIENT
        assert "error=503" in found.excerpt
        assert TOKEN not in found.excerpt

    def test_a_redirect_is_not_followed(self, receiver):
        receiver.answer = lambda _: reply(302, headers={"Location": f"{receiver.url}/elsewhere"})
        assert tell(self.gotify(receiver)).kind is not SendResultKind.DELIVERED
        assert len(receiver.received) == 1

    def test_a_service_that_drips_is_left_at_the_time_limit_and_may_have_the_message(self, receiver):
        receiver.answer = lambda _: receiver.drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 1000)
        began = time.monotonic()
        assert tell(self.gotify(receiver), seconds=4).kind is SendResultKind.UNKNOWN
        assert time.monotonic() - began < 8

    def test_an_address_inside_is_not_connected_to(self, receiver, settings):
        settings.NOTIFY_ALLOWED_NETWORKS = []
        found = tell(self.gotify(receiver))
        assert (found.kind, found.excerpt) == (SendResultKind.CONFIGURATION, guard.REFUSAL)
        assert receiver.connections == []

    def test_a_name_that_leads_inside_is_not_connected_to(self, receiver, settings):
        settings.NOTIFY_ALLOWED_NETWORKS = []
        found = tell(self.gotify(receiver).replace("127.0.0.1", "localhost"))
        assert found.kind is SendResultKind.CONFIGURATION
        assert receiver.connections == []

    def test_what_the_package_does_not_understand_is_a_configuration(self):
        assert tell("gotify://").kind is SendResultKind.CONFIGURATION

    def test_an_answer_that_nobody_knows_may_have_been_sent(self):
        [request] = requests("gotify://a/b")
        assert apprise.classify(request, Answer(status=200, body=b"{}")).kind is SendResultKind.UNKNOWN


class TestItsProcess:
    def job(self, receiver):
        return Request(
            method="APPRISE", url=f"gotify://{host(receiver)}/{TOKEN}", headers={},
            body=b'{"title": "t", "body": "b", "type": "info"}',
        )  # fmt: skip

    def run(self, work):
        return asyncio.run(work())

    def test_many_messages_go_through_one_process(self, receiver):
        async def work():
            job = self.job(receiver)
            await asyncio.gather(*(apprise_process.ask(job) for _ in range(5)))
            return apprise_process._children[asyncio.get_running_loop()]._process.pid

        pid = self.run(work)
        assert len(receiver.received) == 5
        wait_until(lambda: not is_running(pid), "it ends with its loop")

    def test_it_is_replaced_after_some_jobs(self, receiver, monkeypatch):
        monkeypatch.setattr(apprise_process, "JOBS_MAX", 2)

        async def work():
            pids = []
            job = self.job(receiver)
            for _ in range(3):
                await apprise_process.ask(job)
                pids.append(apprise_process._children[asyncio.get_running_loop()]._process.pid)
            return pids

        first, second, third = self.run(work)
        assert first == second != third
        assert not is_running(first)

    def test_one_that_is_killed_while_it_sends_may_have_sent(self, receiver):
        receiver.answer = lambda _: receiver.hang()

        async def work():
            job = self.job(receiver)
            asking = asyncio.create_task(apprise_process.ask(job))
            await asyncio.to_thread(wait_until, lambda: receiver.received, "it is being sent")
            apprise_process._children[asyncio.get_running_loop()]._process.kill()
            return apprise.classify(job, await asking)

        assert self.run(work).kind is SendResultKind.UNKNOWN

    def test_one_that_ended_before_a_job_began_is_replaced_and_the_message_is_sent(self, receiver):
        async def work():
            job = self.job(receiver)
            await apprise_process.ask(job)
            apprise_process._children[asyncio.get_running_loop()]._process.kill()
            return apprise.classify(job, await apprise_process.ask(job))

        assert self.run(work).kind is SendResultKind.DELIVERED
        assert len(receiver.received) == 2

    def test_it_knows_no_secret_of_this_installation(self, monkeypatch):
        monkeypatch.setenv("SECRET_KEY", TOKEN)
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example")
        environment = apprise_process._environment()
        assert "DATABASE_URL" not in environment
        assert not {TOKEN, "http://proxy.example"} & set(environment.values())

    def test_through_a_proxy_it_connects_to_nothing_else(self, receiver, settings):
        settings.NOTIFY_PROXY, settings.NOTIFY_ALLOWED_NETWORKS = receiver.url, []

        async def work():
            request = msgspec.structs.replace(self.job(receiver), url=f"gotify://gotify.example/{TOKEN}")
            return apprise.classify(request, await apprise_process.ask(request))

        assert self.run(work).kind is SendResultKind.DELIVERED
        assert receiver.received[0].path == "http://gotify.example/message"

    def test_it_ends_when_there_is_nothing_to_do_and_another_one_takes_the_next_message(self, receiver, monkeypatch):
        monkeypatch.setattr(apprise_process, "IDLE_SECONDS", 0.2)

        async def work():
            job = self.job(receiver)
            await apprise_process.ask(job)
            await apprise_process._children[asyncio.get_running_loop()]._reading
            return apprise.classify(job, await apprise_process.ask(job))

        assert self.run(work).kind is SendResultKind.DELIVERED
        assert len(receiver.received) == 2


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True

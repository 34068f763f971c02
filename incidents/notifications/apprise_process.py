"""Sending through Apprise in a process of its own, started when there is something to send (shell).

    a request -> one line to the child -> one line back
    no job for ten seconds: the child ends; a job without an end, or fifty jobs: no further ones, a new child instead

At most one child takes jobs; one that is being replaced ends with its last job. It has no secret of this process.
"""

import asyncio
import os
import sys
from collections.abc import Mapping

import msgspec
from django.conf import settings

from incidents.exceptions import DeliveryError
from incidents.notifications.apprise_child import LINE_BYTES_MAX, Job, Result
from incidents.notifications.channels.base import Answer, Request
from lib.encoding import to_json

JOBS_MAX = 50
"""Jobs of one child: Apprise is not made for long lives."""
IDLE_SECONDS = 10.0
"""A child without a job ends after that."""
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "LD_LIBRARY_PATH")


class ChildEndedError(DeliveryError):
    """The process of Apprise ended before a result came. `is_begun`: the message may have been sent."""

    def __init__(self, *, is_begun: bool) -> None:
        super().__init__("the process of Apprise ended")
        self.is_begun = is_begun


async def ask(request: Request) -> Answer:
    """Send a request of the channel `apprise`, and return the result as an answer."""
    for _ in range(2):
        child = await _usable_child()
        try:
            return Answer(status=200, body=to_json(await child.send(request)))
        except ChildEndedError as error:
            if error.is_begun:
                return Answer(status=200, body=to_json({"result": "timeout", "log": str(error)}))
    return Answer(status=200, body=to_json({"result": "failure", "log": "Its process does not start."}))


class _Child:
    """A running child and the jobs that it has not finished."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._results: dict[int, asyncio.Future[Result]] = {}
        self._begun: set[int] = set()
        self._count = 0
        self._is_retired = False
        self._reading = asyncio.create_task(self._read())

    @property
    def is_usable(self) -> bool:
        return not self._is_retired and self._count < JOBS_MAX and not self._reading.done()

    async def send(self, request: Request) -> Result:
        assert self._process.stdin is not None, "it was started with a pipe"
        self._count += 1
        id_ = self._count
        content = msgspec.json.decode(request.body)
        networks = None if settings.NOTIFY_PROXY else [str(one) for one in settings.NOTIFY_ALLOWED_NETWORKS]
        job = Job(id_, request.url, content["title"], content["body"], content["type"], networks)
        result = self._results[id_] = asyncio.get_running_loop().create_future()
        try:
            try:
                self._process.stdin.write(to_json(job) + b"\n")
                await self._process.stdin.drain()
            except OSError:
                raise ChildEndedError(is_begun=False) from None
            found: Result = await result
            return found
        except asyncio.CancelledError:  # The time is up.
            self._is_retired = True
            raise
        finally:
            del self._results[id_]
            if not self._results and not self.is_usable:
                self._end()

    async def _read(self) -> None:
        """Read results until the child ends, or its loop does."""
        assert self._process.stdout is not None, "it was started with a pipe"
        try:
            while line := await self._process.stdout.readline():
                found = msgspec.json.decode(line, type=Result)
                if found.result == "begun":
                    self._begun.add(found.id)
                elif (waiting := self._results.get(found.id)) is not None and not waiting.done():
                    waiting.set_result(found)
        finally:
            self._is_retired = True  # Before anything else: a job that came now would wait for ever.
            self._end()
            for id_, waiting in self._results.items():
                if not waiting.done():
                    waiting.set_exception(ChildEndedError(is_begun=id_ in self._begun))
            await self._gone()

    async def _gone(self) -> None:
        """Wait for the end of the killed process, also while the loop ends."""
        assert self._process.stdin is not None, "it was started with a pipe"
        self._process.stdin.close()
        try:
            await self._process.wait()
        except asyncio.CancelledError:
            await self._process.wait()
            raise
        finally:
            await asyncio.sleep(0)  # Its pipes are closed in the next turn.

    def _end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()


_children: dict[asyncio.AbstractEventLoop, _Child] = {}


async def _usable_child() -> _Child:
    loop = asyncio.get_running_loop()
    child = _children.get(loop)
    if child is None or not child.is_usable:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "incidents.notifications.apprise_child", f"{IDLE_SECONDS:g}"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=settings.BASE_DIR,
            env=_environment(),
            limit=LINE_BYTES_MAX,
        )
        child = _children.get(loop)
        if child is not None and child.is_usable:  # Another message has started one meanwhile.
            process.kill()
            return child
        for gone in [one for one in _children if one.is_closed()]:
            del _children[gone]
        child = _children[loop] = _Child(process)
    return child


def _environment() -> Mapping[str, str]:
    """Return what the child may know: no secret, and no proxy but ours."""
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | {"NETRC": os.devnull}
    proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    return found | dict.fromkeys(proxies, settings.NOTIFY_PROXY) if settings.NOTIFY_PROXY else found

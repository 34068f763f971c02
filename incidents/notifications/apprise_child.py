"""The process that runs Apprise: `python -m incidents.notifications.apprise_child SECONDS`.

It reads one job a line from its standard input and writes one result a line; it ends when the input ends, or when there
was nothing to do for some seconds, since the package takes 55 MB. It knows neither Django nor its settings: its
environment has no secret but those of its jobs. Each job runs in a thread, whose sockets an audit hook holds to the
addresses that may be reached (`guard`), redirects and all.
"""

import ipaddress
import logging
import os
import select
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from incidents.notifications import guard
from incidents.notifications.channels.apprise import BODY_LENGTH_MAX, SCHEMAS, URL_LENGTH_MAX, url_problem

SERVICE_SECONDS = 20.0
"""What one service may take. Its thread may go on after that."""
THREADS = 16
LINE_BYTES_MAX = 16 * (URL_LENGTH_MAX + BODY_LENGTH_MAX) + 100_000


class Job(msgspec.Struct):
    """One text for one service. `allowed`: networks inside that may be reached; None: whatever the proxy reaches."""

    id: int
    url: str
    title: str
    body: str
    type: str
    allowed: list[str] | None


class Result(msgspec.Struct):
    """What became of a job: begun, success, failure, timeout, partial, unusable or refused; and Apprise's own words."""

    id: int
    result: str
    log: str = ""


def main(idle_seconds: float) -> None:
    """Work until the input ends or nothing has come for so many seconds."""
    guard.install_audit_hook()
    logging.disable(logging.DEBUG)  # At that level Apprise logs tokens.
    import apprise
    from apprise import manager_plugins

    services: Any = manager_plugins
    services.NotificationManager().enable_only(*SCHEMAS)
    asset = apprise.AppriseAsset(
        http_redirects=False, service_timeout=SERVICE_SECONDS, allow_templates=False, secure_logging=True,
        storage_mode="memory", app_id="Watchclock", app_desc="Watchclock", app_url="", image_url_mask="",
        image_url_logo="", image_path_mask=False,
    )  # fmt: skip
    pool = ThreadPoolExecutor(THREADS)
    busy = _Busy()
    lines = _Lines(sys.stdin.fileno())
    while True:
        line = lines.next(idle_seconds)
        if line is None and busy:
            continue
        if not line:
            break
        job = msgspec.json.decode(line, type=Job)
        busy.add()
        pool.submit(_work, apprise, asset, job, busy)
    os._exit(0)  # Threads that a service holds are not waited for.


def _work(apprise: Any, asset: Any, job: Job, busy: "_Busy") -> None:
    try:
        _write(Result(job.id, "begun"))
        _write(send(apprise, asset, job))
    except Exception as error:  # noqa: BLE001 - whatever it is, it concerns one job only
        _write(Result(job.id, "failure", type(error).__name__))
    finally:
        busy.done()


def send(apprise: Any, asset: Any, job: Job) -> Result:
    """Send one text, and return what became of it."""
    if url_problem(job.url):
        return Result(job.id, "unusable")
    service = apprise.Apprise.instantiate(job.url, asset=asset, suppress_exceptions=True)
    if service is None:
        return Result(job.id, "unusable")
    service.overflow_mode = apprise.OverflowMode.TRUNCATE
    sender = apprise.Apprise(asset=asset)
    sender.add(service)
    allowed = None if job.allowed is None else [ipaddress.ip_network(network) for network in job.allowed]
    with guard.guarded(allowed) as refused:
        answer = sender.notify(body=job.body, title=job.title, notify_type=job.type, body_format="text")
    words = " ".join(str(getattr(entry, "message", entry)) for entry in answer.logs())
    result = answer.status.name.lower()
    if refused:
        result = "refused"
    return Result(job.id, "unusable" if result == "nomatch" else result, words[:1_000])


class _Busy:
    """How many jobs are not finished."""

    def __init__(self) -> None:
        self._count, self._lock = 0, threading.Lock()

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self) -> None:
        with self._lock:
            self._count += 1

    def done(self) -> None:
        with self._lock:
            self._count -= 1


class _Lines:
    """The lines of a pipe, with a limit for the wait and for their length."""

    def __init__(self, pipe: int) -> None:
        self._pipe, self._rest = pipe, b""

    def next(self, seconds: float) -> bytes | None:
        """Return the next line; None if none came in time, and nothing at the end."""
        while b"\n" not in self._rest:
            if not select.select([self._pipe], [], [], seconds)[0]:
                return None
            part = os.read(self._pipe, 65_536)
            self._rest += part
            if not part or len(self._rest) > LINE_BYTES_MAX:
                return b""
        line, _, self._rest = self._rest.partition(b"\n")
        return line


_writing = threading.Lock()


def _write(result: Result) -> None:
    with _writing:
        os.write(sys.stdout.fileno(), msgspec.json.encode(result) + b"\n")


if __name__ == "__main__":
    main(float(sys.argv[1]))

"""`make run`: a whole Watchclock on one machine, started by one command and stopped by Ctrl-C.

Starts the embedded engines, migrates, makes the first account and project, then keeps web, worker and beat running:

    lock -> leftovers -> port -> engines, nursery -> bootstrap -> web, worker, beat -> watch until a signal -> stop all

The port is opened here, once, and handed to the web: while no web runs, connections wait instead of being refused.
SIGHUP to the web's process (its pid is in instance.json) puts new code into service without losing a connection; SIGHUP
to the supervisor means that its terminal is gone, and stops everything.

What it needs to remember is in the data directory (`.watchclock/`, or WATCHCLOCK_HOME):

    instance.json   how to reach this Watchclock, for scripts (0600: it holds a password)
    environment     the settings of its processes, which manage.py reads so that commands work on this instance (0600)
    secret_key      made on the first start (0600)
    lock            held while a supervisor runs; the kernel lets go of it whatever happens to the supervisor
    logs/           the output of every process
    postgres/, valkey/, spool/  what the processes keep

Every child leads a process group of its own, so that Ctrl-C reaches only the supervisor, which then stops them in
order, and so that what a killed child left behind can be ended with it. Children die with the supervisor, even if it is
killed.
"""

import contextlib
import errno
import json
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from project import env
from project.local import engines
from project.local.children import (
    BASE_DIR,
    Child,
    engine_child,
    explain_os_error,
    nursery_child,
    program_arguments,
    program_child,
    say,
    start_python,
    stop,
    web_child,
)
from project.local.home import (
    HOST,
    CannotStartError,
    child_environment,
    describe_instance,
    end_leftovers,
    locked,
    make_home,
    read_instance,
    write_instance,
)
from project.local.nursery import Nursery

WATCH_SECONDS = 0.2
DEMO = "demo"
"""The program that lets the jobs of the demo go on."""
BACKLOG_CONNECTIONS = 4096
"""How many may wait for the web; it asks for as many as it wants when it comes."""
WRITE_AGAIN_SECONDS = 10.0
"""How often an instance.json that could not be written is tried again."""
NURSERY_SECONDS_MAX = 30.0
"""How long programs wait for the nursery; then they are started without it."""
WEB_ALONE_SECONDS_MAX = 15.0
"""Worker and beat start when the web answers, so that check-ins are taken soonest, but wait no longer than this."""


def main() -> int:
    """Run until asked to stop. Returns the exit code: 0 after an orderly stop, 1 if it could not start.

    With `--demo`: an instance of its own, with two weeks of history and jobs that go on.
    """
    is_demo = "--demo" in sys.argv[1:]
    signals = Signals()
    try:
        place = BASE_DIR / (".watchclock-demo" if is_demo else ".watchclock")
        home = Path(env.text("WATCHCLOCK_HOME", default=str(place))).absolute()
        port = env.whole_number("WATCHCLOCK_PORT", default=8000, minimum=1, maximum=65_535)
        worker_processes = env.whole_number("WORKER_PROCESSES", default=2, minimum=1, maximum=64)
        make_home(home)
        with locked(home):
            end_leftovers(home)
            with open_port(port, target=DEMO if is_demo else "run") as listener:
                programs = program_arguments(worker_processes=worker_processes)
                if is_demo:
                    programs[DEMO] = ["manage", "demo", "--live"]
                run(home, listener, signals, programs)
    except (CannotStartError, engines.EngineError, ImproperlyConfigured) as error:
        say(f"Watchclock cannot start: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        say(f"Watchclock cannot start: {explain_os_error(error)}.", file=sys.stderr)
        return 1
    return 0


class StopAskedError(Exception):
    """Somebody wants it to stop while it starts."""


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag, so that a stop happens between two steps and never inside one."""

    def __init__(self) -> None:
        self.stop_asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, *_: object) -> None:
        self.stop_asked = True

    def check(self) -> None:
        """Raise StopAskedError if somebody has asked to stop."""
        if self.stop_asked:
            raise StopAskedError


def run(home: Path, listener: socket.socket, signals: Signals, programs: Mapping[str, list[str]]) -> None:
    """Start everything, watch it until a signal, and stop everything, whatever happens in between."""
    port = int(listener.getsockname()[1])
    logs = home / "logs"
    logs.mkdir(exist_ok=True, mode=0o700)
    children: list[Child] = []
    instance: dict[str, Any] = read_instance(home)
    try:
        say("Starting PostgreSQL and Valkey ...")
        postgres = engines.prepare_postgres(home / "postgres", port=engines.free_port(), check_stop=signals.check)
        valkey = engines.prepare_valkey(home / "valkey", port=engines.free_port())
        for engine in (postgres, valkey):
            children.append(engine_child(engine, logs))
            children[-1].launch()
        variables = child_environment(home, port, database_url=postgres.url, redis_url=valkey.url)
        nurse, nursery = nursery_child(variables, logs)
        if nurse is not None:
            children.append(nurse)
            nurse.launch()  # It imports while the engines start.
        for engine, child in zip((postgres, valkey), children, strict=False):
            assert child.process is not None
            engines.wait_until_ready(engine, child.process, child.log, check_stop=signals.check)
        say("Bringing the database up to date ...")
        if nursery is not None:
            nursery.wait_until_ready(NURSERY_SECONDS_MAX, check_stop=signals.check)
        account = json.loads(
            manage(["bootstrap", "--json"], variables, logs / "bootstrap.log", nursery, signals=signals)
        )
        if DEMO in programs:
            say("Two weeks go by, once ...")
            manage(["demo", "--if-empty"], variables, logs / "demo.log", nursery)
            signals.check()
        instance = describe_instance(port, account, instance)
        web = web_child(listener, variables, logs, nursery)
        others = [program_child(name, arguments, variables, logs, nursery) for name, arguments in programs.items()]
        children.append(web)
        web.launch()
        write_instance(home, instance, children)
        greeted = unwritten = False
        write_again_at = 0.0
        web_started_at = time.monotonic()
        while not signals.stop_asked:
            changed = [child for child in children if child.revive()]
            answers = greeted or web_answers(port)
            if others and (answers or time.monotonic() - web_started_at > WEB_ALONE_SECONDS_MAX):
                for child in others:
                    child.launch()
                children += others
                changed, others = others, []
            unwritten = unwritten or bool(changed)
            if unwritten and time.monotonic() >= write_again_at:
                try:
                    write_instance(home, instance, children)
                    unwritten = False
                except OSError as error:
                    # It goes on without: only scripts, and the next start after a kill, read the file.
                    write_again_at = time.monotonic() + WRITE_AGAIN_SECONDS
                    say(f"{home / 'instance.json'} cannot be written: {explain_os_error(error)}.")
            if answers and not greeted:
                greeted = True
                greet(instance, logs, notified=who_is_notified(variables))
            time.sleep(WATCH_SECONDS)
    except StopAskedError:
        pass
    finally:
        if children:
            say("Stopping ...")
        listener.close()  # Whoever comes now is refused at once, and does not wait for a web that will not come.
        stop(children)
        if "base_url" in instance:
            with contextlib.suppress(OSError):
                write_instance(home, instance, [])
        if "base_url" in instance or signals.stop_asked:
            say("Stopped. The data stay in " + str(home))


def open_port(port: int, *, target: str) -> socket.socket:
    """A listening socket. Raises `CannotStartError` with a way out, by the same target, if the port is in use."""
    try:
        return socket.create_server((HOST, port), backlog=BACKLOG_CONNECTIONS)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise CannotStartError(
            f"port {port} {reason}. Choose another: make {target} WATCHCLOCK_PORT={port + 1 if port < 65_535 else 8000}"
        ) from None


def manage(
    arguments: list[str],
    variables: dict[str, str],
    log: Path,
    nursery: Nursery | None = None,
    *,
    signals: Signals | None = None,
) -> str:
    """Run a management command to its end and return the last line of its output.

    Raises `CannotStartError` if it fails. Ctrl-C waits for it, since half a migration helps nobody; with `signals` the
    command is asked to end at a good place, and StopAskedError is raised then.
    """
    log.write_text("")
    process = start_python(["manage", *arguments], variables, log, last_signal=signal.SIGTERM, nursery=nursery)
    if signals is not None:
        while process.poll() is None and not signals.stop_asked:
            time.sleep(engines.LOOK_SECONDS)
        if process.poll() is None:
            say("Stopping after the migration that runs ...")
            process.send_signal(signal.SIGTERM)
            process.wait()
        signals.check()
    exit_code = process.wait()
    output = log.read_text()
    if exit_code:
        raise CannotStartError(f"manage.py {arguments[0]} failed:\n{output}")
    return output.rstrip().rpartition("\n")[2]


def web_answers(port: int) -> bool:
    """Whether the web process answers requests; connections alone are taken by the kernel."""
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=2) as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        return bool(connection.recv(100))
    return False


def who_is_notified(variables: Mapping[str, str]) -> str:
    """Say who is notified of incidents, or that nobody is and what to do about it: as `notifications.addressees`."""
    addresses = [word.strip() for word in variables.get("ALERT_EMAIL_TO", "").split(",") if word.strip()]
    if addresses and not variables.get("EMAIL_URL", "consolemail://").startswith("consolemail:"):
        return ", ".join(addresses)
    missing = "ALERT_EMAIL_TO is empty" if not addresses else "EMAIL_URL names no mail server"
    return f"nobody: {missing}. See docs/how-to/get-notified.md"


def greet(instance: dict[str, Any], logs: Path, *, notified: str) -> None:
    """Print where everything is, with a check-in to try."""
    body = '{"status": "ok", "monitor_config": {"schedule": {"type": "crontab", "value": "*/5 * * * *"}}}'
    say(f"""
Watchclock is running.

  Pages     {instance["base_url"]}/
  Admin     {instance["admin_url"]}
  Login     {instance["admin_user"]}
  Password  {instance["admin_password"] or "(the one that you chose)"}
  DSN       {instance["dsn"]}
  Logs      {logs}
  Notified  {notified}

A first check-in, which also makes its monitor:

  curl "{instance["check_in_url"]}" -H 'Content-Type: application/json' \\
    -d '{body}'

Ctrl-C stops it.
""")


if __name__ == "__main__":
    sys.exit(main())

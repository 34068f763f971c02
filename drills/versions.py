"""Versions of Watchclock in one world: a commit checked out beside this one, its programs, and what they log.

A version is asked for what it knows by code that runs in it, with its own packages.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from drills.installation import python_of
from drills.world import World
from project.local import children, engines

HERE = children.BASE_DIR
DONE = re.compile(r"Task ([\w.]+)\[[^]]*\] succeeded")
ERROR = re.compile(r"\b(error|critical)\b|Traceback|unregistered task", re.IGNORECASE)

ARGUMENTS = "import json; from project.local.children import program_arguments; print(json.dumps(program_arguments()))"
SEND_ALL = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "project.settings"
import django; django.setup()
from project.celery import app
app.loader.import_default_modules()
app.tasks["clocktasks.tasks.tick"]()
print("clocktasks.tasks.process_clock_task")
for name in sorted(app.tasks):
    if not name.startswith("celery.") and name != "clocktasks.tasks.process_clock_task":
        app.send_task(name)
        print(name)
"""
"""Sends each task of a version; that of a shard, which needs arguments, as a tick does it that is judged here."""
TASKS = SEND_ALL.split("app.tasks[", maxsplit=1)[0] + "print(*app.tasks)"
UNKNOWN = re.compile(r"unregistered task of type '([\w.]+)'")
ENDED = re.compile("terminating connection|server closed the connection|idle-in-transaction timeout")


@dataclass
class Version:
    """A version's programs in a world: worker, delivery and beat."""

    name: str
    tree: Path
    world: World
    programs: dict[str, children.Child] = field(default_factory=dict)

    def start(self) -> None:
        """Start all of them."""
        arguments = json.loads(self._run(ARGUMENTS))
        for part, (program, *options) in arguments.items():
            name = f"{self.name}-{part}"
            if part != "beat":
                options += ["--hostname", f"{name}@%h"]
                if self.tree == HERE:  # Old workers log each task that they have done.
                    program = "drills.talkative"
            child = child_of(self.tree, name, [program, *options], self.world.variables, self.world.logs)
            child.launch()
            self.world.programs.append(child)
            self.programs[part] = child

    def stop(self, part: str) -> None:
        """Stop one for good."""
        self.world.told(f"the {part} of the {self.name} version stops")
        child = self.programs.pop(part)
        self.world.programs.remove(child)
        children.stop([child])

    def workers(self) -> list[children.Child]:
        """Those that take messages."""
        return [child for part, child in self.programs.items() if part != "beat"]

    def send_all(self) -> set[str]:
        """Put a message of each of its tasks into the broker; returns their names."""
        return set(self._run(SEND_ALL).split())

    def done(self) -> Counter[str]:
        """How often it has done each task, as its workers' logs say."""
        return Counter(name for child in self.workers() for name in DONE.findall(child.log.read_text(errors="replace")))

    def tasks(self) -> set[str]:
        """The names of the tasks that it knows."""
        return set(self._run(TASKS).split())

    def errors(self, *, newer: Set[str] = frozenset()) -> list[str]:
        """What its programs have called an error, besides what is no misunderstanding if a `newer` version comes.

        They do not know all tasks of that: sweeps, which the next run of a worker that knows them makes up for. And of
        a migration and an old program that wait for each other, PostgreSQL refuses one; the next run does it. A worker
        that the drill freezes in a transaction, for half a minute on a slow machine, finds its connection ended.
        """
        lines = (
            line for child in self.programs.values() for line in child.log.read_text(errors="replace").splitlines()
        )
        return [
            f"{self.name}: {line}"
            for line in lines
            if ERROR.search(line)
            and not newer & set(UNKNOWN.findall(line))
            and not (newer and "deadlock detected" in line)
            and not ENDED.search(line)
        ]

    def _run(self, code: str) -> str:
        ended = subprocess.run(
            [python_of(self.tree), "-c", code], cwd=self.tree, env=self.world.variables,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise RuntimeError(f"{self.tree}: {ended.stderr[-3000:]}")
        return ended.stdout


def child_of(
    tree: Path, name: str, arguments: Sequence[str], variables: dict[str, str], logs: Path, *files: int
) -> children.Child:
    """A child that runs a module of a version, with these of our open files."""
    log = logs / f"{name}.log"

    def start() -> "subprocess.Popen[bytes]":
        with log.open("ab") as output:
            return subprocess.Popen(
                [python_of(tree), "-m", *arguments], cwd=tree, env=variables, stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True, pass_fds=files,
                preexec_fn=lambda: engines.die_with_parent(signal.SIGTERM),
            )  # fmt: skip

    return children.Child(name=name, start=start, log=log)


@contextlib.contextmanager
def checked_out(commit: str, directory: Path) -> Iterator[Path]:
    """A commit beside this one, with this one's packages if its lock asks for the same ones, or with its own."""
    tree = directory / "old"
    git = ("git", "-C", str(HERE), "worktree")
    subprocess.run([*git, "add", "--detach", "--quiet", str(tree), commit], check=True)
    try:
        if packages(tree) <= packages(HERE):
            (tree / ".venv").symlink_to(sys.prefix)
        else:
            subprocess.run(["make", "--silent", "install"], cwd=tree, check=True)  # noqa: S607 - as one does by hand
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def packages(tree: Path) -> set[tuple[str, str]]:
    """What a version's lock asks for, by name and version, besides itself."""
    locked = tomllib.loads((tree / "uv.lock").read_text())["package"]
    return {(package["name"], package["version"]) for package in locked if "virtual" not in package["source"]}

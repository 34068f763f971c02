"""A small disk, to be filled."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def small_disk(path: Path, *, mib: int) -> Iterator[str]:
    """Make a directory that is a disk of its own; gives the reason if that cannot be, else an empty text.

    Only root can mount one, and not in every container.
    """
    path.mkdir()
    options = f"size={mib}m,mode=0755"
    try:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        mounted = subprocess.run(command, check=False, capture_output=True, text=True)
        problem = mounted.stderr.strip() or f"mount ended with {mounted.returncode}" if mounted.returncode else ""
    except OSError as error:
        problem = str(error)
    try:
        yield problem
    finally:
        if not problem:
            subprocess.run(["umount", "--lazy", str(path)], check=True)  # noqa: S607 - wherever the system has it


def fill(path: Path) -> None:
    """Write a file until its disk has no room left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * (1 << 20)):
            pass

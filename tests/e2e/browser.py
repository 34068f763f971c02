"""Chromium without a window, over its debugging pipe: what a person sees, and what went wrong while it was drawn."""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE_SECONDS, wait_until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str | None:
    """The installed program, if there is one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One tab. `complaints` are uncaught exceptions, errors on the console and resources that could not be loaded."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.complaints: list[str] = []
        self._ids = itertools.count(1)
        self._unread = b""
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, url: str) -> None:
        """Go to an address and wait until the page is there."""
        self.evaluate("window.isLeft = true")
        self.call("Page.navigate", url=url)
        self._wait_for_another_page()

    def leave_by(self, expression: str) -> None:
        """Run JavaScript that leads to another page (a click, a form), and wait until that is there."""
        self.evaluate("window.isLeft = true")
        self.evaluate(expression)
        self._wait_for_another_page()

    def _wait_for_another_page(self) -> None:
        arrived = "!window.isLeft && document.readyState === 'complete'"
        wait_until(lambda: self.evaluate(arrived), "another page is there")

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; None while the page is being replaced by another."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True)
        result = answer.get("result", {})
        assert "exceptionDetails" not in result, f"{expression}: {result['exceptionDetails']}"
        return result.get("result", {}).get("value")

    def text(self) -> str:
        """Return what can be read on the page, with single blanks."""
        return " ".join(str(self.evaluate("document.body.innerText")).split())

    def screenshot(self, path: Path) -> bytes:
        """Store what can be seen as a PNG file, and return its bytes."""
        image = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        path.write_bytes(image)
        return image

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send one command of the DevTools protocol and return its result."""
        answer = self._ask(method, **parameters)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        command = {"id": next(self._ids), "method": method, "params": parameters, **self._session}
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\0")
        self.process.stdin.flush()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (message := self._receive(deadline)).get("id") != command["id"]:
            self._look_at(message)
        return message

    def _receive(self, deadline: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self.process.stdout], [], [], max(deadline - time.monotonic(), 0))
            assert ready, "the browser does not answer"
            received = os.read(self.process.stdout.fileno(), 1 << 20)
            assert received, f"the browser has ended with exit code {self.process.wait()}"
            self._unread += received
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message

    def _look_at(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        wrong = (
            event.get("method") == "Runtime.exceptionThrown"
            or (event.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error")
            or (event.get("method") == "Runtime.consoleAPICalled" and about["type"] == "error")
        )
        if wrong:
            self.complaints.append(json.dumps(about))


@contextlib.contextmanager
def running_browser(program: str, profile: Path, environment: dict[str, str]) -> Iterator[Browser]:
    """Chromium with an empty profile. It reads commands on descriptor 3 and answers on 4: here standard in and out."""
    arguments = (
        *("--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}", "--window-size=1400,1000"),
        *("--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"),
        *(("--no-sandbox",) if os.geteuid() == 0 else ()),  # It refuses to be root with one.
    )
    process = subprocess.Popen(
        ["sh", "-c", 'exec "$@" 3<&0 4>&1', "sh", program, *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with process:
        try:
            yield Browser(process)
        finally:
            process.kill()

"""What the admin shows to be pasted into a job does what it says, and survives the copy: it is run here as it stands.

`curl`, `wget` and `my-job` are stand-ins that write down how they were called.
"""

import os
import re
import shutil
import subprocess
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from checkins.protocols.request import IngestRequest, Limits, Sender
from checkins.protocols.routes import find_route
from monitors.snippets import OUTPUT_BYTES, Address, client_lines, ping_lines, project_lines
from project.local.engines import free_port
from tests.factories import NOW

KEY = "0123456789abcdef0123456789abcdef"
GUID = uuid.UUID("5b0a2f3c-9a41-4b7e-8d0f-3f6f1c2d4e5a")
BASES = [
    pytest.param("http://127.0.0.1:8000", id="an address"),
    pytest.param("https://[::1]:8000", id="brackets, which shells expand"),
    pytest.param('https://watchclock.example.com/it\'s/50%/$(touch gone)/`touch gone`/"a\\b"/$HOME & c', id="anything"),
]
SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh", "busybox") if shutil.which(shell)]
FLAGS = ["-fsS", "-m", "10", "--retry", "5", "--retry-connrefused", "-o", "/dev/null"]


def address(base="https://watchclock.example.com", **fields):
    values: dict[str, Any] = {
        "project_id": 7,
        "slug": "nightly-report",
        "guid": GUID,
        "public_key": KEY,
        "crontab": "*/5 * * * *",
        "timezone": "Europe/Vienna",
    }
    return Address(base_url=base, **(values | fields))


def text_of(title, lines):
    [text] = [line.text for line in lines if line.title == title]
    return text


@pytest.fixture
def play(tmp_path):
    """Run a text in a shell beside stand-ins; return the calls, each with its arguments, and the exit status."""
    bin_, calls = tmp_path / "bin", tmp_path / "calls"
    bin_.mkdir()

    def stand_in(name, script):
        (bin_ / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_ / name).chmod(0o755)

    record = (
        f"""for word in "$(basename "$0")" "$@"; do printf '%s\\0' "$word"; done >> {calls}; printf '\\n' >> {calls}"""
    )
    for name in ("curl", "wget"):
        stand_in(name, f"{record}; [ -t 0 ] || cat > {tmp_path}/body")

    def run(text, *, ends_with=0, prints="", shell="sh", **variables):
        calls.unlink(missing_ok=True)
        (tmp_path / "output").write_text(prints)
        stand_in("my-job", f"{record}; cat {tmp_path}/output; echo trouble >&2; exit {ends_with}")
        command = ["busybox", "sh"] if shell == "busybox" else [shell]
        environment = {"PATH": f"{bin_}:{os.environ['PATH']}", "HOME": "/home", "SHELL": "/bin/sh", **variables}
        done = subprocess.run(
            [*command, "-c", text],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=30,
        )
        assert not (tmp_path / "gone").exists(), "the shell ran a part of the address"
        words = calls.read_text().splitlines() if calls.exists() else []
        return [line.rstrip("\0").split("\0") for line in words], done.returncode

    stand_in("sentry-cli", f'set -- "$@" "$SENTRY_DSN"; {record}')
    return run


def curl(url, *more):
    return ["curl", *FLAGS, *more, url]


JOB = ["my-job"]


# --- In a shell -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("status", [0, 1, 137])
def test_the_curl_lines_report_beginning_end_and_exit_status(play, base, shell, status):
    lines, url = ping_lines(address(base)), f"{base}/ping/{GUID}"
    calls, _ = play(text_of("curl: beginning, end and exit status", lines), ends_with=status, shell=shell)
    assert calls == [curl(f"{url}/start"), JOB, curl(f"{url}/{status}")]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_job_that_is_done_reports_and_one_that_failed_does_not(play, base, shell):
    text = text_of("curl: the job is done", ping_lines(address(base)))
    assert play(text, shell=shell)[0] == [JOB, curl(f"{base}/ping/{GUID}")]
    assert play(text, shell=shell, ends_with=1) == ([JOB], 1)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shell", SHELLS)
def test_ok_or_fail(play, base, shell):
    text, url = text_of("curl: ok or fail", ping_lines(address(base))), f"{base}/ping/{GUID}"
    assert play(text, shell=shell)[0] == [JOB, curl(url)]
    assert play(text, shell=shell, ends_with=3)[0] == [JOB, curl(f"{url}/fail")]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_output_of_the_job_is_sent_with_its_exit_status(play, tmp_path, base, shell):
    text, url = text_of("curl: with what the job prints", ping_lines(address(base))), f"{base}/ping/{GUID}"
    calls, _ = play(text, shell=shell, ends_with=3, prints="@no file\n50 % \\n 'done'\n")
    assert calls == [JOB, curl(f"{url}/3", "--data-binary", "@-")]
    assert (tmp_path / "body").read_bytes() == b"@no file\n50 % \\n 'done'\ntrouble"


def test_output_of_any_size_is_sent_its_last_part_and_the_end_is_reported(play, tmp_path):
    """A large argument would be refused by the system, and the job would look as if it had not ended."""
    text = text_of("curl: with what the job prints", ping_lines(address()))
    calls, _ = play(text, ends_with=0, prints="x" * 3_000_000)
    assert len(calls) == 2
    body = (tmp_path / "body").read_bytes()
    assert len(body) == OUTPUT_BYTES
    assert body.endswith(b"xtrouble")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("shell", SHELLS)
def test_wget(play, base, shell):
    text = text_of("wget", ping_lines(address(base)))
    flags = ["-q", "-T", "10", "-t", "5", "--retry-connrefused", "-O", "/dev/null"]
    assert play(text, shell=shell)[0] == [JOB, ["wget", *flags, f"{base}/ping/{GUID}"]]


@pytest.mark.parametrize("base", BASES)
def test_sentry_cli_gets_its_dsn(play, base):
    target = address(base)
    text, dsn = (text_of(title, client_lines(target)) for title in ("sentry-cli", "Sentry DSN"))
    assert play(text)[0] == [["sentry-cli", "monitors", "run", "nightly-report", "--", "my-job", dsn]]


@pytest.mark.parametrize("base", BASES)
def test_a_projects_curl_line_is_for_its_job(play, base):
    text = text_of("Any job (curl)", project_lines(base, KEY, 7))
    assert play(text)[0] == [curl(f"{base}/api/7/cron/my-job/{KEY}/?status=ok")]


# --- In other places --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", BASES)
def test_a_line_of_a_crontab_runs_at_the_monitors_times_and_reports_the_exit_status(play, base):
    line = text_of("cron", ping_lines(address(base)))
    *schedule, command = line.split(maxsplit=5)
    assert (schedule, "\n" in line) == (["*/5", "*", "*", "*", "*"], False)
    assert not re.search(r"(?<!\\)%", command), "a per cent sign ends the command"
    calls, _ = play(command.replace("\\%", "%"), ends_with=4)
    assert calls == [JOB, curl(f"{base}/ping/{GUID}/4")]


def test_a_job_on_an_interval_gets_a_crontab_as_an_example():
    line = text_of("cron", ping_lines(address(crontab=None)))
    assert line.startswith("0 * * * *  my-job; curl ")


def words_of(command):
    """Return the words of a command as systemd reads it: quotes, C's escapes, then $ and %."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', command)
    plain = [re.sub(r"\\(.)", r"\1", quoted) if quoted else bare for quoted, bare in words]
    for word in plain:
        assert not re.search(r"\$(?!\$)", word.replace("$$", "")), "systemd would put a variable there"
        assert not re.search(r"%(?!%)", word.replace("%%", "")), "systemd would put a name there"
    return [word.replace("$$", "$").replace("%%", "%") for word in plain]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(
    ("code", "status", "told"),
    [("exited", "0", "0"), ("exited", "3", "3"), ("killed", "TERM", "fail"), ("dumped", "SEGV", "fail")],
)
def test_a_unit_of_systemd_reports_its_start_and_how_it_ended(play, base, code, status, told):
    unit = text_of("systemd", ping_lines(address(base)))
    keys = dict(line.split("=", 1) for line in unit.splitlines() if "=" in line)
    assert unit.startswith("[Service]\n")
    assert list(keys) == ["Type", "ExecStartPre", "ExecStart", "ExecStopPost"]
    start = words_of(keys["ExecStartPre"])
    assert start == ["-/usr/bin/curl", *FLAGS, f"{base}/ping/{GUID}/start"]
    shell, option, script = words_of(keys["ExecStopPost"])
    assert (shell, option) == ("-/bin/sh", "-c")
    calls, _ = play(script, EXIT_CODE=code, EXIT_STATUS=status)
    assert calls == [curl(f"{base}/ping/{GUID}/{told}")]


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("status", [0, 5])
def test_a_cron_job_of_kubernetes_reports_and_ends_as_its_job_did(play, base, status):
    manifest = yaml.safe_load(text_of("Kubernetes CronJob", ping_lines(address(base, slug="_nightly_report"))))
    assert (manifest["kind"], manifest["metadata"]["name"]) == ("CronJob", "nightly-report")
    assert (manifest["spec"]["schedule"], manifest["spec"]["timeZone"]) == ("*/5 * * * *", "Europe/Vienna")
    [container] = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["/bin/sh", "-c"]
    [script] = container["args"]
    assert not re.search(r"(?<!\$)\$\(", script), "Kubernetes would put a variable there"
    calls, code = play(script.replace("$$(", "$("), ends_with=status)
    assert calls == [curl(f"{base}/ping/{GUID}/start"), JOB, curl(f"{base}/ping/{GUID}/{status}")]
    assert code == status


@pytest.mark.parametrize("base", BASES)
def test_powershell_puts_the_address_between_quotes_that_nothing_in_it_ends(base):
    first, *rest = text_of("PowerShell", ping_lines(address(base))).splitlines()
    quoted = re.fullmatch(r"\$url = '((?:[^']|'')*)'", first)
    assert quoted
    assert quoted[1].replace("''", "'") == f"{base}/ping/{GUID}"
    assert rest[1:] == [
        "Report '/start'",
        "my-job",
        "if ($LASTEXITCODE -eq 0) { Report '' } else { Report '/fail' }",
    ]


# --- Addresses --------------------------------------------------------------------------------------------------------


def speaker_at(url):
    """Return who a request to this address says it is, as the server reads it."""
    parts = urlsplit(url)
    request = IngestRequest(
        method="GET", path=parts.path, query=parts.query, headers={}, body=b"", body_bytes=0, received_at=NOW
    )
    found = find_route(request.path)
    assert found is not None, url
    protocol, groups = found
    return protocol.identify(request, groups, Limits())


@pytest.mark.parametrize("slug", ["nightly-report", "start", "run", "log", "push", "0", "a_b-c"])
def test_every_address_that_is_shown_leads_to_the_monitor_or_its_project(slug):
    target = address(slug=slug)
    lines = client_lines(target)
    for word in ("", "/start", "/fail", "/log", "/0", "/255"):
        assert speaker_at(target.ping_url + word) == Sender(monitor_guid=GUID)
    assert speaker_at(text_of("Uptime Kuma push", lines)) == Sender(monitor_guid=GUID)
    assert speaker_at(text_of("Ping URL by slug (Healthchecks)", lines)) == Sender(public_key=KEY)
    assert speaker_at(text_of("Cronitor", lines)) == Sender(public_key=KEY)
    assert speaker_at(text_of("Sentry check-in address", lines)) == Sender(project_id=7, public_key=KEY)


@pytest.mark.parametrize(
    ("base", "dsn"),
    [
        ("https://watchclock.example.com", f"https://{KEY}@watchclock.example.com/7"),
        ("http://127.0.0.1:8000", f"http://{KEY}@127.0.0.1:8000/7"),
        ("https://example.com/tools", f"https://{KEY}@example.com/tools/7"),
    ],
)
def test_a_dsn_has_the_key_before_the_host_and_the_project_at_the_end(base, dsn):
    assert text_of("Sentry DSN", client_lines(address(base))) == dsn
    assert text_of("DSN", project_lines(base, KEY, 7)) == dsn


@pytest.fixture
def receiver():
    """A server that writes down what it is sent, on an address with signs that strings have to escape."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self):
            calls.append((self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
            self.send_response(200)
            self.end_headers()

        do_GET = do_POST = _answer  # noqa: N815 - as http.server wants them

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/it's/50%25/$HOME", calls
    server.shutdown()
    thread.join()
    server.server_close()


PROGRAMS = [
    pytest.param("Python", [sys.executable, "-c"], "def my_job():\n    {}\n", "pass", "1 / 0", id="Python"),
    pytest.param(
        "Node.js", ["node", "-e"], "async function myJob() {{ {} }}\n", "", 'throw new Error("ZeroDivision")',
        id="Node.js", marks=pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("title", "command", "job", "good", "bad"), PROGRAMS)
def test_a_program_reports_its_beginning_and_its_end_or_its_error(receiver, title, command, job, good, bad):
    base, calls = receiver
    text, path = text_of(title, ping_lines(address(base))), f"{urlsplit(base).path}/ping/{GUID}"
    assert subprocess.run([*command, job.format(good) + text], check=False, timeout=60).returncode == 0
    assert calls == [(f"{path}/start", b""), (path, b"")]
    calls.clear()
    failed = subprocess.run([*command, job.format(bad) + text], check=False, timeout=60, capture_output=True)
    assert failed.returncode == 1
    assert b"ZeroDivision" in failed.stderr
    assert [path for path, _ in calls] == [f"{path}/start", f"{path}/fail"]
    assert b"ZeroDivision" in calls[1][1]


@pytest.mark.parametrize(("title", "command", "job", "good", "bad"), PROGRAMS)
def test_a_program_does_its_job_if_nobody_receives_reports(title, command, job, good, bad):
    text = text_of(title, ping_lines(address(f"http://127.0.0.1:{free_port()}")))
    assert subprocess.run([*command, job.format(good) + text], check=False, timeout=60).returncode == 0


def test_without_a_key_only_the_addresses_that_need_none_are_shown():
    assert [line.title for line in client_lines(address(public_key=None))] == ["Uptime Kuma push"]


def test_the_python_lines_are_python():
    text = text_of("Python (sentry-sdk)", project_lines("https://watchclock.example.com", KEY, 7))
    compile(text, "pasted", "exec")
    assert f'"https://{KEY}@watchclock.example.com/7"' in text

"""Snippets to paste into a job so that it reports: addresses, and lines for the usual places (pure).

Each text can be copied unchanged into the place that its title names. All quoting for that place is done here. The part
that a person has to replace is `my-job` everywhere, in the spelling of the language.
"""

import json
import shlex
import uuid
from dataclasses import dataclass
from typing import NamedTuple

CURL = "curl -fsS -m 10 --retry 5 --retry-connrefused -o /dev/null"
"""Fails on error answers, prints only errors, at most 10 s per attempt. Without `--retry-connrefused` curl would not
try
again after a refused connection, which is the usual error during a restart."""
WGET = "wget -q -T 10 -t 5 --retry-connrefused -O /dev/null"
OUTPUT_BYTES = 100_000
"""The part of a job's output that is stored."""
CRONTAB_EXAMPLE = "0 * * * *"
"""For jobs whose schedule is an interval."""


class Line(NamedTuple):
    """A text to copy, and its place."""

    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a monitor. `base_url` is an http or https address without a slash at its end.

    `public_key` is an active key of the project, None if it has none. `crontab` is None if the schedule is an interval.
    """

    base_url: str
    project_id: int
    slug: str
    guid: uuid.UUID
    public_key: str | None
    crontab: str | None
    timezone: str

    @property
    def ping_url(self) -> str:
        """The monitor's own address: a GET without a key is enough."""
        return f"{self.base_url}/ping/{self.guid}"


def ping_lines(address: Address) -> tuple[Line, ...]:
    """Return lines that report to the monitor's own address, for each usual place of a job."""
    url = address.ping_url
    quoted = shlex.quote(url)
    start, end = f"{CURL} {shlex.quote(url + '/start')}", f"{CURL} {shlex.quote(url + '/')}"
    fail = f"{CURL} {shlex.quote(url + '/fail')}"
    crontab = address.crontab or CRONTAB_EXAMPLE
    return (
        Line("curl: the job is done", f"my-job && {CURL} {quoted}"),
        Line("curl: beginning, end and exit status", f"{start}\nmy-job\n{end}$?"),
        Line("curl: ok or fail", f"if my-job; then {CURL} {quoted}; else {fail}; fi"),
        Line(
            "curl: with what the job prints",
            f"output=$(my-job 2>&1); code=$?\n"
            f'printf %s "$output" | tail -c {OUTPUT_BYTES} | {CURL} --data-binary @- {shlex.quote(url + "/")}$code',
        ),
        Line("wget", f"my-job && {WGET} {quoted}"),
        Line("cron", f"{crontab}  {_in_crontab(f'my-job; {end}$?')}"),
        Line("Python", _python(url)),
        Line("Node.js", _node(url)),
        Line("systemd", _systemd(url)),
        Line("PowerShell", _powershell(url)),
        Line("Kubernetes CronJob", _kubernetes(address, crontab)),
    )


def client_lines(address: Address) -> tuple[Line, ...]:
    """Return addresses for the clients of other services. Without a key, only those that need none."""
    base, key, slug = address.base_url, address.public_key, address.slug
    push = Line("Uptime Kuma push", f"{base}/api/push/{address.guid.hex}?status=up&msg=OK&ping=")
    if key is None:
        return (push,)
    dsn = sentry_dsn(base, key, address.project_id)
    return (
        Line("Sentry DSN", dsn),
        Line("Python (sentry-sdk)", _sentry_sdk(dsn, slug)),
        Line("sentry-cli", f"SENTRY_DSN={shlex.quote(dsn)} sentry-cli monitors run {shlex.quote(slug)} -- my-job"),
        Line("Sentry check-in address", f"{sentry_cron_url(base, key, address.project_id, slug)}?status=ok"),
        Line("Ping URL by slug (Healthchecks)", f"{base}/ping/{key}/{slug}"),
        Line("Cronitor", f"{base}/p/{key}/{slug}?state=complete"),
        push,
    )


def project_lines(base_url: str, public_key: str, project_id: int) -> tuple[Line, ...]:
    """Return snippets for any job of a project: Python SDK, plain HTTP, sentry-cli."""
    dsn = sentry_dsn(base_url, public_key, project_id)
    check_in = sentry_cron_url(base_url, public_key, project_id, "my-job")
    return (
        Line("DSN", dsn),
        Line("Python (sentry-sdk)", f"import sentry_sdk\n\nsentry_sdk.init(dsn={json.dumps(dsn)})"),
        Line("Any job (curl)", f"{CURL} {shlex.quote(f'{check_in}?status=ok')}"),
        Line("Any command (sentry-cli)", f"SENTRY_DSN={shlex.quote(dsn)} sentry-cli monitors run my-job -- my-job"),
    )


def sentry_dsn(base_url: str, public_key: str, project_id: int) -> str:
    """Return the DSN: the key is before the host."""
    scheme, _, rest = base_url.partition("://")
    return f"{scheme}://{public_key}@{rest}/{project_id}"


def sentry_cron_url(base_url: str, public_key: str, project_id: int, slug: str) -> str:
    """Return the address of Sentry's plain check-ins."""
    return f"{base_url}/api/{project_id}/cron/{slug}/{public_key}/"


def _in_crontab(command: str) -> str:
    """Escape a command for a crontab, where a per cent sign ends the command. Source: crontab(5)."""
    return command.replace("%", "\\%")


def _python(url: str) -> str:
    """Return a module of the standard library only. An error of a report never affects the job."""
    return f"""\
import traceback
import urllib.request

URL = {json.dumps(url)}


def report(word, log=""):
    try:
        urllib.request.urlopen(URL + word, data=log.encode() or None, timeout=10).close()
    except OSError:
        pass


report("/start")
try:
    my_job()
except BaseException:
    report("/fail", traceback.format_exc())
    raise
report("")"""


def _node(url: str) -> str:
    """Return a script without packages. A rejected promise ends Node.js with an error, as the job would have."""
    return f"""\
const url = {json.dumps(url)};

async function report(word, log) {{
  const options = {{ method: log ? "POST" : "GET", body: log, signal: AbortSignal.timeout(10_000) }};
  await fetch(url + word, options).catch(() => {{}});
}}

async function run() {{
  await report("/start");
  try {{
    await myJob();
  }} catch (error) {{
    await report("/fail", String(error?.stack ?? error));
    throw error;
  }}
  await report("");
}}

run();"""


def _sentry_sdk(dsn: str, slug: str) -> str:
    return f"""\
import sentry_sdk
from sentry_sdk.crons import monitor

sentry_sdk.init(dsn={json.dumps(dsn)})

with monitor(monitor_slug={json.dumps(slug)}):
    my_job()"""


def _systemd(url: str) -> str:
    """Return a unit. After a signal EXIT_STATUS is its name and EXIT_CODE is not `exited`. Source: systemd.exec(5)."""
    script = (
        f"case $EXIT_CODE in exited) code=$EXIT_STATUS;; *) code=fail;; esac; exec {CURL} {shlex.quote(url + '/')}$code"
    )
    return (
        "[Service]\n"
        "Type=oneshot\n"
        f"ExecStartPre=-/usr/bin/{CURL} {_systemd_word(url + '/start')}\n"
        "ExecStart=/usr/local/bin/my-job\n"
        f"ExecStopPost=-/bin/sh -c {_systemd_word(script)}"
    )


def _systemd_word(text: str) -> str:
    """Return one word of a command line, escaped for systemd. Source: systemd.service(5)."""
    for special, escaped in (("\\", "\\\\"), ('"', '\\"'), ("$", "$$"), ("%", "%%")):
        text = text.replace(special, escaped)
    return f'"{text}"'


def _powershell(url: str) -> str:
    """Return a script in which an error of a report never affects the job."""
    quoted = "'" + url.replace("'", "''") + "'"
    return (
        f"$url = {quoted}\n"
        "function Report($word) { try { Invoke-RestMethod ($url + $word) -TimeoutSec 10 | Out-Null } catch { } }\n"
        "Report '/start'\n"
        "my-job\n"
        "if ($LASTEXITCODE -eq 0) { Report '' } else { Report '/fail' }"
    )


def _kubernetes(address: Address, crontab: str) -> str:
    script = (
        f"{CURL} {shlex.quote(address.ping_url + '/start')}",
        "my-job",
        "code=$?",
        f"{CURL} {shlex.quote(address.ping_url + '/')}$code",
        "exit $code",
    )
    # Kubernetes replaces $(NAME) before the shell sees it; two dollar signs become one. A name must not have an
    # underscore.
    lines = "\n".join(f"                  {line.replace('$(', '$$(')}" for line in script)
    name = json.dumps(address.slug.replace("_", "-").strip("-") or "my-job")
    return f"""\
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
spec:
  schedule: {json.dumps(crontab)}
  timeZone: {json.dumps(address.timezone)}
  jobTemplate:
    spec:
      backoffLimit: 0
      template:
        spec:
          restartPolicy: Never
          containers:
            - name: {name}
              image: my-image  # with a shell and curl
              command: ["/bin/sh", "-c"]
              args:
                - |
{lines}"""

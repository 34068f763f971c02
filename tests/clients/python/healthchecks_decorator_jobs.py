"""Functions under the decorator of healthchecks-decorator.

usage: healthchecks_decorator_jobs.py PING_URL PING_URL_OF_A_FAILING_JOB
"""

import json
import sys

from healthchecks_decorator import healthcheck


def main(ping_url: str, failing_ping_url: str) -> None:
    @healthcheck(url=ping_url, send_start=True, send_diagnostics=True)
    def count() -> dict[str, str]:
        return {"rows": "3"}

    @healthcheck(url=failing_ping_url, send_start=True, send_diagnostics=True)
    def divide() -> float:
        return 1 / 0

    told = count()
    try:
        divide()
    except ZeroDivisionError as error:
        told["raised"] = str(error)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

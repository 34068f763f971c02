"""A job that says how it stands with `capture_checkin`: one run, its words in order, all under one id.

usage: report.py DSN SLUG MONITOR_CONFIG_AS_JSON STATUS...
"""

import json
import sys

import sentry_sdk
from sentry_sdk.crons import capture_checkin


def main(dsn: str, slug: str, config: str, *statuses: str) -> None:
    # On a busy machine the SDK's usual 2 s at the end of a process may not be enough to deliver.
    sentry_sdk.init(dsn=dsn, shutdown_timeout=30)
    check_in_id = None
    for status in statuses:
        check_in_id = capture_checkin(
            monitor_slug=slug, check_in_id=check_in_id, status=status, monitor_config=json.loads(config)
        )


if __name__ == "__main__":
    main(*sys.argv[1:])

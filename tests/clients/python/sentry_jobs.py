"""Jobs that report through sentry-sdk: by hand, and under `@monitor`; and an error, which the SDK sends as well.

usage: sentry_jobs.py DSN PREFIX_OF_SLUGS
"""

import json
import sys
from typing import TYPE_CHECKING, Any

import sentry_sdk
from sentry_sdk.crons import capture_checkin, monitor

if TYPE_CHECKING:
    from sentry_sdk._types import MonitorConfig

NIGHTLY: "MonitorConfig" = {
    "schedule": {"type": "crontab", "value": "30 2 * * mon-fri"},
    "timezone": "Europe/Vienna",
    "checkin_margin": 5,
    "max_runtime": 45,
    "failure_issue_threshold": 2,
    "recovery_threshold": 3,
}


def main(dsn: str, prefix: str) -> None:
    # On a busy machine the SDK's usual 2 s at the end of a process may not be enough to deliver.
    sentry_sdk.init(dsn=dsn, shutdown_timeout=30, traces_sample_rate=1.0)
    transport: Any = sentry_sdk.get_client().transport
    told: dict[str, Any] = {"compression": transport._compression_algo}

    # The server wants no errors and says so. Check-ins have to come through all the same.
    sentry_sdk.capture_message("the printer is on fire")
    sentry_sdk.flush(30)
    told["paused"] = [
        category for category in ("error", "transaction", "monitor") if transport._check_disabled(category)
    ]

    told["id"] = capture_checkin(f"{prefix}-captured", status="in_progress", monitor_config=NIGHTLY)
    told["same id"] = capture_checkin(
        f"{prefix}-captured", told["id"], status="ok", duration=61.5, monitor_config=NIGHTLY
    )

    @monitor(monitor_slug=f"{prefix}-decorated", monitor_config=NIGHTLY)
    def count() -> int:
        return 42

    @monitor(monitor_slug=f"{prefix}-raising", monitor_config=NIGHTLY)
    def divide() -> float:
        return 1 / 0

    told["returned"] = str(count())
    try:
        divide()
    except ZeroDivisionError as error:
        told["raised"] = str(error)
    sentry_sdk.flush(30)
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])

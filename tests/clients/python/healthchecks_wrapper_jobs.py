"""Jobs in the context manager of healthchecks-wrapper.

usage: healthchecks_wrapper_jobs.py PING_URL PING_URL_FOR_ASYNCIO
"""

import asyncio
import sys

from healthchecks_wrapper import HealthCheck


def main(ping_url: str, other_ping_url: str) -> None:
    with HealthCheck(ping_url):
        pass
    with HealthCheck(ping_url, suppress_exceptions=True):
        print_invoices()
    asyncio.run(with_asyncio(other_ping_url))


def print_invoices() -> None:
    raise RuntimeError("no paper left")


async def with_asyncio(ping_url: str) -> None:
    async with HealthCheck(ping_url):
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Jobs that ping through healthchecks-io, the way its documentation shows.

usage: healthchecks_io_jobs.py PING_ENDPOINT UUID PING_KEY SLUG SLUG_FOR_ASYNCIO
"""

import asyncio
import json
import sys
import uuid

from healthchecks_io import AsyncClient, CheckNotFoundError, CheckTrap, Client


def main(ping_url: str, check: str, ping_key: str, slug: str, other_slug: str) -> None:
    told = {}
    with Client(ping_url=ping_url, ping_key=ping_key) as client:
        told["start"] = client.start_ping(uuid=check)
        told["success"] = client.success_ping(uuid=check, data="42 rows, größer als gestern")
        told["exit code"] = client.exit_code_ping(3, uuid=check)
        told["fail"] = client.fail_ping(uuid=check, data="disk full")
        try:
            client.success_ping(uuid=str(uuid.uuid4()))
        except CheckNotFoundError as error:
            told["unknown"] = str(error)
        with CheckTrap(client, slug=slug) as trap:
            trap.add_log("copied")
            trap.add_log("verified")
        with CheckTrap(client, slug=slug, suppress_exceptions=True):
            copy()
    asyncio.run(with_asyncio(AsyncClient(ping_url=ping_url, ping_key=ping_key), other_slug))
    sys.stdout.write(json.dumps(told))


def copy() -> None:
    raise RuntimeError("no space left")


async def with_asyncio(client: AsyncClient, slug: str) -> None:
    async with client, CheckTrap(client, slug=slug) as trap:
        trap.add_log("done")


if __name__ == "__main__":
    main(*sys.argv[1:])

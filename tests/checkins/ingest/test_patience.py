"""Waits for bodies end when they take too long, and nothing else is taken for that."""

import asyncio

import pytest

from checkins.ingest.patience import Patience


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


async def at_once() -> None:
    pass


async def for_ever() -> None:
    await asyncio.Event().wait()


def test_what_is_there_at_once_is_waited_for():
    assert run(Patience().wait(at_once(), 10))


def test_a_wait_ends_after_its_time_and_the_task_goes_on():
    async def two_waits():
        patience = Patience()
        first = await patience.wait(for_ever(), 0.01)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return first, await patience.wait(at_once(), 0.01)

    assert run(two_waits()) == (False, True)


def test_only_those_that_are_late_end():
    async def several():
        patience = Patience()
        others = [asyncio.ensure_future(patience.wait(asyncio.sleep(0.2), 20)) for _ in range(3)]
        late = asyncio.ensure_future(patience.wait(for_ever(), 0.01))
        return await late, await asyncio.gather(*others)

    assert run(several()) == (False, [True, True, True])


def test_an_error_of_what_is_waited_for_is_its_own():
    async def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run(Patience().wait(fails(), 10))


def test_who_cancels_the_task_ends_it():
    async def cancelled():
        waiting = asyncio.ensure_future(Patience().wait(for_ever(), 20))
        await asyncio.sleep(0)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        run(cancelled())


def test_nothing_is_watched_when_nobody_waits():
    async def after_a_while():
        patience = Patience()
        await patience.wait(at_once(), 0.01)
        while patience._is_watching:  # noqa: ASYNC110 - there is no event for a timer that is gone
            await asyncio.sleep(0.001)

    run(after_a_while())

"""One reader for all viewers."""

import asyncio
import threading

import pytest
from django.db import OperationalError

from dashboard.live.hub import Hub

PATIENCE_SECONDS = 20


class Source:
    """A mark that tests change; may fail as a database that is away."""

    def __init__(self, mark="1"):
        self.mark, self.error, self.reads = mark, None, 0
        self.lock = threading.Lock()

    def read(self):
        with self.lock:
            self.reads += 1
            if self.error:
                raise self.error
            return self.mark


@pytest.fixture
def source():
    return Source()


def run(story):
    asyncio.run(asyncio.wait_for(story, PATIENCE_SECONDS))


async def until(condition):
    while not condition():  # noqa: ASYNC110 - another thread changes it
        await asyncio.sleep(0.005)


def test_a_viewer_gets_each_change_once(source):
    async def story():
        hub = Hub(source.read, poll_seconds=0.01)
        marks = hub.marks("1")
        waiting = asyncio.ensure_future(anext(marks))
        await until(lambda: source.reads > 2)
        assert not waiting.done()
        source.mark = "2"
        assert await waiting == "2"
        source.mark = "3"
        assert await anext(marks) == "3"
        await marks.aclose()
        await hub.stop()

    run(story())


def test_a_viewer_whose_page_is_older_gets_a_mark_at_once(source):
    async def story():
        hub = Hub(source.read, poll_seconds=0.01)
        marks = hub.marks("0")
        assert await anext(marks) == "1"
        await marks.aclose()
        await hub.stop()

    run(story())


def test_without_changes_there_are_signs_of_life(source):
    async def story():
        hub = Hub(source.read, poll_seconds=0.01)
        marks = hub.marks("1", quiet_seconds=0.05)
        assert [await anext(marks), await anext(marks)] == ["", ""]
        await marks.aclose()
        await hub.stop()

    run(story())


def test_two_hundred_viewers_cost_as_many_polls_as_one(source):
    async def story():
        hub = Hub(source.read, poll_seconds=0.01)
        viewers = [hub.marks("1") for _ in range(200)]
        waiting = [asyncio.ensure_future(anext(viewer)) for viewer in viewers]
        await until(lambda: hub.viewers == 200 and source.reads >= 3)
        before = source.reads
        source.mark = "2"
        assert set(await asyncio.gather(*waiting)) == {"2"}
        assert source.reads - before <= 3, "not one for each"
        for viewer in viewers:
            await viewer.aclose()
        await hub.stop()

    run(story())


def test_nobody_watches_nothing_is_polled(source):
    async def story():
        hub = Hub(source.read, poll_seconds=0.01)
        marks = hub.marks("0")
        await anext(marks)
        await marks.aclose()
        assert hub.viewers == 0
        await until(lambda: hub._task is not None and hub._task.done())
        count = source.reads
        again = hub.marks("0")
        assert await anext(again) == "1"
        assert source.reads > count
        await again.aclose()
        await hub.stop()

    run(story())


def test_a_database_that_is_away_only_delays(source):
    async def story():
        source.error = OperationalError("gone")
        hub = Hub(source.read, poll_seconds=0.01)
        marks = hub.marks("0")
        waiting = asyncio.ensure_future(anext(marks))
        await until(lambda: source.reads > 3)
        assert not waiting.done()
        source.error = None
        assert await waiting == "1"
        await marks.aclose()
        await hub.stop()

    run(story())

"""What was rendered once is served to all, renewed when something has changed, and bounded."""

import threading

import django.db
import pytest

from dashboard.shared.kept import LIFE_SECONDS, RENEW_SECONDS, Rendering, Shelf


class World:
    """A database and a clock, with what was asked of them."""

    def __init__(self):
        self.now, self.mark = 100.0, "1"
        self.body: bytes | None = b"a"
        self.marks_read = self.rendered = 0
        self.shelf = Shelf(self.read_mark, lambda: self.now, bytes_max=100)

    def read_mark(self):
        self.marks_read += 1
        return self.mark

    def render(self):
        self.rendered += 1
        return None if self.body is None else Rendering(self.body, "text/plain")

    def get(self, key="page"):
        found = self.shelf.get(key, self.render)
        return None if found is None else found.body


@pytest.fixture
def world():
    return World()


def test_a_thousand_views_within_two_seconds_ask_once(world):
    for _ in range(1_000):
        world.get()
        world.now += RENEW_SECONDS / 1_001
    assert (world.rendered, world.marks_read) == (1, 1)


def test_what_has_changed_is_rendered_anew(world):
    world.get()
    world.mark, world.body = "2", b"b"
    world.now += RENEW_SECONDS - 0.1
    assert world.get() == b"a"
    world.now += 0.1
    assert world.get() == b"b"


def test_while_nothing_changes_nothing_is_rendered_until_it_is_old(world):
    world.get()
    for _ in range(int(LIFE_SECONDS / RENEW_SECONDS) - 1):
        world.now += RENEW_SECONDS
        world.get()
    assert world.rendered == 1
    world.now += RENEW_SECONDS
    world.get()
    assert world.rendered == 2


def test_many_pages_read_the_mark_once(world):
    for key in range(20):
        world.get(key)
    assert world.marks_read == 1


def test_what_is_gone_is_served_no_longer(world):
    world.get()
    world.mark, world.body = "2", None
    world.now += RENEW_SECONDS
    assert world.get() is None


def test_while_the_database_is_away_the_last_rendering_is_served(world):
    world.get()
    world.now += LIFE_SECONDS
    world.read_mark = lambda: (_ for _ in ()).throw(django.db.OperationalError("gone"))
    world.shelf._read_mark = world.read_mark
    assert world.get() == b"a"
    with pytest.raises(django.db.OperationalError):
        world.get("another")


def test_what_was_asked_for_last_has_room(world):
    world.body = b"x" * 40
    for key in ("a", "b", "c"):
        world.get(key)
    world.get("c")
    world.get("b")
    assert world.rendered == 3
    world.get("a")
    assert world.rendered == 4


def test_nobody_who_can_be_served_waits_for_somebody_who_renders(world):
    world.get()
    world.now += RENEW_SECONDS
    world.mark = "2"
    begun, go_on = threading.Event(), threading.Event()

    def slow():
        begun.set()
        go_on.wait(30)
        return Rendering(b"b", "text/plain")

    thread = threading.Thread(target=lambda: world.shelf.get("page", slow))
    thread.start()
    begun.wait(30)
    try:
        assert world.get() == b"a"
    finally:
        go_on.set()
        thread.join()
    assert world.get() == b"b"


def test_the_tag_changes_with_the_bytes():
    tags = {Rendering(body, "text/plain").etag for body in (b"a", b"a", b"b")}
    assert len(tags) == 2

"""P2: the clock waits for what a process acknowledged that never met PostgreSQL, once another one meets it."""

import os
from contextlib import nullcontext
from datetime import timedelta
from functools import partial

import pytest

from checkins import nodes
from checkins.ingest.neighbours import opened_spools
from checkins.ingest.node import Node
from checkins.ingest.orphans import announce_neighbours
from checkins.ingest.spool_directory import open_orphan, open_spool
from checkins.models import IngestNode
from checkins.processing.finding import Hints
from checkins.watermarks import stored_until
from lib.wallclock import utcnow
from tests.checkins.ingest.test_spool import MEBIBYTE, make_request

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def opened(directory):
    """Open a spool as a process does that begins; all are closed at the end."""
    spools = []

    def open_one():
        spools.append(open_spool(directory, bytes_max=MEBIBYTE))
        return spools[-1]

    yield open_one
    for spool in spools:
        spool.close()


def kill(spool):
    """What is left of a spool when its process is killed: the kernel frees the lock, and nothing else happens."""
    since = opened_spools(spool.path.parent)[spool.node_id]
    spool.close()
    spool.path.with_suffix(".lock").write_text(str(int(since.timestamp() * 1_000_000)))


def a_node(spool, directory):
    return Node(
        spool,
        spool_lock=nullcontext(),
        hints=Hints(),
        announce=partial(announce_neighbours, directory, spool.node_id),
    )


@pytest.mark.parametrize("step", ["register", "settle", "beat"])
def test_p2_a_node_that_meets_postgresql_again_registers_its_neighbours_first(opened, directory, step):
    own, other = opened(), opened()
    node, began = a_node(own, directory), utcnow()
    if step != "register":
        nodes.register_node(own.node_id, watermark=began, now=began, host="web", pid=1)
    other.append([(make_request(at=began), None)])
    kill(other)
    later = began + timedelta(minutes=3)
    if step == "register":
        node.register(later, later, listening_since=later)
    elif step == "settle":
        node.settle(later)
    else:
        node.beat(watermark=later, now=later, spooled_count=0, listening_since=began)
    assert stored_until(later).until <= began


def test_the_clock_goes_on_when_the_spool_of_the_neighbour_is_drained(opened, directory, monkeypatch):
    own, other = opened(), opened()
    node = a_node(own, directory)
    kill(other)
    later = utcnow() + timedelta(minutes=3)
    node.register(later, later, listening_since=later)
    orphan = open_orphan(directory, bytes_max=MEBIBYTE, waited_for=nodes.live_ids())
    assert orphan is not None
    assert orphan.node_id == other.node_id
    adopted = Node(orphan, spool_lock=nullcontext(), hints=Hints())
    adopted.adopt(later)
    adopted.leave(later)
    orphan.close()
    node.beat(watermark=later, now=later, spooled_count=0, listening_since=later)
    assert stored_until(later).until == later
    assert opened_spools(directory).keys() == {own.node_id}


def test_what_the_clock_waits_for_already_stays_as_it_is(opened, directory):
    own, other = opened(), opened()
    later = utcnow() + timedelta(minutes=3)
    nodes.register_node(other.node_id, watermark=later, now=later, host="web-2", pid=7)
    before = IngestNode.objects.values().get()
    announce_neighbours(directory, own.node_id)
    assert IngestNode.objects.values().get() == before


@pytest.mark.parametrize("reopened", [True, False])
def test_a_node_that_left_counts_again_only_if_its_spool_was_opened_since(opened, directory, reopened):
    own, other = opened(), opened()
    left = utcnow() + timedelta(minutes=-3 if reopened else 3)
    nodes.register_node(other.node_id, watermark=left, now=left, host="web-2", pid=7)
    nodes.deregister(other.node_id, now=left)
    announce_neighbours(directory, own.node_id)
    assert IngestNode.objects.filter(left_at__isnull=True).exists() == reopened


def test_a_neighbour_is_seen_at_every_moment_while_another_process_adopts_its_spool(opened, directory, monkeypatch):
    spool = opened()
    kill(spool)
    real, seen = os.ftruncate, []

    def watched(descriptor, length):
        real(descriptor, length)
        seen.append(opened_spools(directory).keys())

    monkeypatch.setattr(os, "ftruncate", watched)
    opened()
    assert seen == [{spool.node_id}]


def test_a_spool_that_was_closed_empty_is_no_neighbour(opened, directory):
    opened().close()
    assert opened_spools(directory) == {}


def test_a_lock_file_of_an_earlier_version_says_nothing(opened, directory):
    opened().path.with_suffix(".lock").write_text("")
    assert opened_spools(directory) == {}

"""Random stories of ingest processes, a database that is away at times, and the clock: the clock never judges a minute
in which a live node received something that is not stored, and it never waits for less than that.

`STATEFUL_EXAMPLES=500 .venv/bin/pytest tests/stateful` looks further, and elsewhere each time.
"""

import os
import uuid
from datetime import timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck
from hypothesis import settings as search
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from checkins.models import IngestNode
from checkins.nodes import FencedError, advance, beat, deregister, lock_node, register_node
from clocktasks.clock import whole_minute
from clocktasks.dispatch import advance_ledger, poll_nodes
from clocktasks.models import HeldTick, ShardClock, Tick
from tests.factories import NOW

NODES = 3
GRACE = timedelta(seconds=1)

numbers = st.integers(0, NODES - 1)
seconds_it_takes = st.sampled_from([0, 5, 61])


class Process:
    """What really happens in an ingest process: lists of reception times, and no idea of watermarks but their oldest.

    `memory` is not acknowledged yet; `spool` is on the disk, outlives the process and holds (number, time).
    """

    def __init__(self, number):
        self.id = uuid.UUID(int=number + 1)
        self.memory = []
        self.spool = []
        self.spooled_ever = 0
        self.batch = 0
        self.is_running = False

    def unstored(self):
        return [*self.memory, *(received_at for _, received_at in self.spool)]

    def watermark(self, now):
        return min([*self.unstored(), now])

    def to_spool(self):
        for received_at in self.memory:
            self.spooled_ever += 1
            self.spool.append((self.spooled_ever, received_at))
        self.memory = []


def somebody_runs(machine):
    return any(process.is_running for process in machine.processes)


def somebody_runs_with_the_database(machine):
    return machine.database_is_there and somebody_runs(machine)


class NodeMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = NOW
        self.database_is_there = True
        self.processes = [Process(number) for number in range(NODES)]

    def teardown(self):
        for model in (IngestNode, Tick, ShardClock, HeldTick):  # Registrations commit, so there is no rolling back.
            model.objects.all().delete()

    # --- time and the database ---

    @rule(seconds=st.sampled_from([0.5, 1, 5, 20, 59, 60, 61, 125, 700]), silent=st.none() | numbers)
    def time_passes_and_the_clock_looks(self, seconds, silent):
        self.now += timedelta(seconds=seconds)
        if not self.database_is_there:
            return
        for number, process in enumerate(self.processes):
            if process.is_running and number != silent:
                self.beat(process)
        self.look()

    @rule(seconds=st.sampled_from([1, 5, 20, 60]))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)

    @rule()
    def the_database_goes_away_or_comes_back(self):
        self.database_is_there = not self.database_is_there

    # --- processes ---

    def running(self, number):
        """One of the running processes; there is one."""
        running = [process for process in self.processes if process.is_running]
        return running[number % len(running)]

    @initialize()
    def the_first_process_starts(self):
        self.start(self.processes[0])

    @precondition(lambda self: self.database_is_there and not all(process.is_running for process in self.processes))
    @rule(number=numbers)
    def a_process_starts(self, number):
        stopped = [process for process in self.processes if not process.is_running]
        self.start(stopped[number % len(stopped)])

    def start(self, process):
        known = register_node(process.id, watermark=process.watermark(self.now), now=self.now, host="web-1", pid=1)
        process.batch = known.batch
        process.spool = [entry for entry in process.spool if entry[0] > known.spool_position]
        process.is_running = True

    @precondition(somebody_runs)
    @rule(number=numbers, seconds=seconds_it_takes, is_restarted=st.booleans())
    def a_process_is_killed(self, number, seconds, is_restarted):
        process = self.running(number)
        self.now += timedelta(seconds=seconds)
        process.is_running = False
        process.memory = []
        if is_restarted and self.database_is_there:
            self.start(process)

    @precondition(somebody_runs_with_the_database)
    @rule(number=numbers)
    def a_process_leaves(self, number):
        process = self.running(number)
        if not process.unstored():
            beat(process.id, watermark=self.now, now=self.now, spooled_count=0)
            deregister(process.id, now=self.now)
            process.is_running = False

    @precondition(somebody_runs)
    @rule(number=numbers, count=st.integers(1, 4))
    def check_ins_arrive(self, number, count):
        for _ in range(count):
            self.running(number).memory.append(self.now)
            self.now += timedelta(seconds=1)

    @precondition(somebody_runs)
    @rule(number=numbers, meanwhile=st.integers(0, 2), seconds=seconds_it_takes, is_rolled_back=st.booleans())
    def a_batch_is_committed_while_more_arrives(self, number, meanwhile, seconds, is_rolled_back):
        process = self.running(number)
        left = [self.now] * meanwhile
        process.memory += left
        self.now += timedelta(seconds=seconds)
        if process.spool:
            process.to_spool()
            return
        if not self.database_is_there:
            process.to_spool()
            return
        process.batch += 1
        with transaction.atomic():
            advance(
                process.id,
                batch=process.batch,
                watermark=min([*left, self.now]),
                now=self.now,
                spooled_count=len(process.spool),
            )
            transaction.set_rollback(is_rolled_back)
        if is_rolled_back:
            process.to_spool()
        else:
            process.memory = left

    @precondition(somebody_runs)
    @rule(number=numbers)
    def the_queue_overflows_into_the_spool(self, number):
        self.running(number).to_spool()

    @precondition(somebody_runs_with_the_database)
    @rule(number=numbers, drained=st.sampled_from([2, 100]), dies=st.booleans())
    def the_spool_is_drained(self, number, drained, dies):
        process = self.running(number)
        with transaction.atomic():
            known = lock_node(process.id)
            new = [entry for entry in process.spool if entry[0] > known.spool_position][:drained]
            if not new:
                return
            left = [received_at for place, received_at in process.spool if place > new[-1][0]]
            advance(
                process.id,
                batch=None,
                spool_position=new[-1][0],
                watermark=min([*left, *process.memory, self.now]),
                now=self.now,
                spooled_count=len(left),
            )
        if dies:  # Committed, and not forgotten: its successor finds entries that are stored.
            process.is_running = False
            process.memory = []
        else:
            process.spool = [entry for entry in process.spool if entry[0] > new[-1][0]]

    @precondition(somebody_runs_with_the_database)
    @rule(number=numbers)
    def a_process_beats(self, number):
        self.beat(self.running(number))

    def beat(self, process):
        beat(process.id, watermark=process.watermark(self.now), now=self.now, spooled_count=len(process.spool))

    @precondition(somebody_runs_with_the_database)
    @rule(number=numbers)
    def a_batch_of_an_earlier_time_turns_up(self, number):
        process = self.running(number)
        before = IngestNode.objects.get(id=process.id)
        with pytest.raises(FencedError), transaction.atomic():
            advance(process.id, batch=before.batch, watermark=self.now, now=self.now, spooled_count=0)
        assert IngestNode.objects.get(id=process.id).watermark == before.watermark

    # --- the clock ---

    @precondition(lambda self: self.database_is_there)
    @rule(looks=st.sampled_from([2, 12]))
    def the_clock_looks_every_other_second(self, looks):
        for _ in range(looks):
            self.now += timedelta(seconds=2)
            self.look()

    def look(self):
        before = Tick.objects.order_by("-at").values_list("at", flat=True).first()
        marks = dict(IngestNode.objects.values_list("id", "watermark"))
        window, settled = poll_nodes(self.now)
        advance_ledger(window.newest, now=self.now)
        newest = Tick.objects.latest("at").at
        assert before is None or newest >= before
        assert dict(IngestNode.objects.values_list("id", "watermark")) == marks, "the clock moves no watermark"
        live = {node.id for node in settled.live}
        if before is None or newest > before:
            for process in self.processes:
                if process.id in live:
                    stored_position = IngestNode.objects.get(id=process.id).spool_position
                    waiting = [
                        *process.memory,
                        *(received_at for place, received_at in process.spool if place > stored_position),
                    ]
                    assert not [received_at for received_at in waiting if received_at < newest], "a false miss"
        # It waits for nothing but live nodes, and only as long as it has to.
        by_time = whole_minute(self.now - GRACE)
        if all(marks[node_id] >= by_time for node_id in live):
            assert newest >= by_time
            assert window.held is None
        else:
            assert window.held == by_time


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("count", [20, pytest.param(80, marks=pytest.mark.long)])
def test_p2_random_stories_of_processes_never_let_the_clock_pass_a_watermark(settings, count):
    settings.INGEST_NODE_SILENT_SECONDS = 20
    examples = os.environ.get("STATEFUL_EXAMPLES")
    run_state_machine_as_test(
        NodeMachine,
        settings=search(
            max_examples=int(examples or count),
            stateful_step_count=30,
            deadline=None,
            derandomize=examples is None,
            suppress_health_check=list(HealthCheck),
        ),
    )

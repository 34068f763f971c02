"""What should be true after a simulation: the places of `drills.oracle`, in one order or the other.

The account knows the messages that were received and stored, when each was received, and what was edited when.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product

from clocktasks.clock import TaskKind
from drills.oracle.place import Place
from drills.oracle.rules import MINUTE, NO_LIMITS, Monitor, Rules
from drills.simulation.history import BatchStored, Committed, TickApplied, edited, switched
from drills.simulation.node import Copy, Word
from drills.simulation.people import Edited
from drills.simulation.rules import RUNS_LEAST, START, Changes, Job, expected_by
from drills.simulation.world import SHARDS, World


@dataclass(frozen=True)
class Edit:
    """What an edit made of a monitor's rules, or whether it is active, and from which instant on that holds.

    `number` is the place in the history of the transaction that brought it.
    """

    number: int
    monitor_id: int
    at: datetime
    rules: Rules | None = None
    is_active: bool | None = None


class Account:
    """Everything that happened, in one order or the other."""

    def __init__(self, world: World, deaf: frozenset[datetime]) -> None:
        self.rules = {job.monitor_id: job.rules for job in world.jobs}
        self.monitors = {
            number: Monitor(
                expected_by(rules),
                windows=world.windows.get(number, ()),
                limits=world.limits.get(number, NO_LIMITS),
                runs_least=RUNS_LEAST,
            )
            for number, rules in self.rules.items()
        }
        self.places = {job: Place(self.monitors[job.monitor_id], START - MINUTE, deaf) for job in world.jobs}
        self.number = 0
        self.unsure: set[int] = set()
        """Monitors of which a batch with a configuration may have seen what was before another edit, or after it.

        And those whose disabled monitor stored the end of a run that had fallen due in a minute without a listener: it
        is not counted, unless the clock comes to that minute only later.
        """
        self.told_late: set[Job] = set()
        """Of whom a message waited while the monitor was disabled, and was stored when it was enabled."""
        self.edits: list[Edit] = []
        self.fates: dict[int, str] = {}  # of copies, by their `id()`

    def change(self, monitor_id: int, at: datetime, changes: Changes, is_active: bool | None = None) -> None:
        """An edit is stored: of two the one holds that was stored last, whatever the clocks of hosts say."""
        monitor = self.monitors[monitor_id]
        self.rules[monitor_id] = self.rules[monitor_id]._replace(**dict(changes))
        rules = expected_by(self.rules[monitor_id])
        before = [ended.at for ended in monitor.former] + [switched for switched in sum(monitor.off, ()) if switched]
        edit = Edit(
            self.number,
            monitor_id,
            max([at, *before]),
            None if rules == monitor.rules else rules,
            None if is_active == monitor.is_active else is_active,
        )
        if edit.rules is not None or edit.is_active is not None:
            self.edits.append(edit)
            self.apply(edit)

    def apply(self, edit: Edit) -> None:
        """Have a monitor and its environments as an edit leaves them."""
        before, was_active = self.monitors[edit.monitor_id].edit(edit.at, edit.rules, edit.is_active)
        for job, place in self.places.items():
            if job.monitor_id == edit.monitor_id:
                place.is_edited(edit.at, before, was_active=was_active)

    def is_comparable(self, job: Job) -> bool:
        """Whether it is known what should become of it, and no earlier time of being disabled matters than the last."""
        monitor = self.monitors[job.monitor_id]
        is_off_twice = len(monitor.off) > 1
        # When a run ended that fell due meanwhile depends on who was faster.
        if monitor.off and monitor.limits.overlap_counts is not None:
            return False
        return job.monitor_id not in self.unsure and not (job in self.told_late and is_off_twice)

    def fate_of(self, word: Word) -> str:
        """What becomes of a message that is stored now: of a disabled monitor's only the ends of known runs (D23)."""
        if self.monitors[word.job.monitor_id].is_active:
            return "counted"
        is_known = word.run.hex in self.places[word.job].runs
        return "uncounted" if is_known and word.status != "in_progress" else "refused"

    def hear(self, copy: Copy, fate: str) -> None:
        """Have a message's environment hear it."""
        self.fates[id(copy)] = fate
        place = self.places[copy.word.job]
        if fate == "refused":
            place.is_in_order = place.is_in_order and copy.at >= place.newest
            return
        if fate == "uncounted" and place.was_due_unheard(copy.word.run.hex, copy.at):
            self.unsure.add(copy.word.job.monitor_id)
        place.hears(copy.word.run.hex, copy.word.status, copy.at, counts=fate == "counted")

    def store(self, batch: BatchStored, meanwhile: Iterable[Committed]) -> None:
        """A batch: each configuration is an edit at its own reception.

        `meanwhile` is what was committed since it began: of a monitor that was edited, disabled or enabled in that time
        it may have seen either.
        """
        overtaken = edited(meanwhile)
        self.unsure |= {copy.word.job.monitor_id for copy in with_rules_of_their_instant(batch.copies)}
        for copy in batch.copies:
            if copy.word.config is not None and copy.word.job.monitor_id in overtaken:
                self.unsure.add(copy.word.job.monitor_id)
        for copy in batch.copies:
            if copy.word.config is not None:
                self.change(copy.word.job.monitor_id, copy.at, copy.word.config)
        unsure = switched(meanwhile)
        for number, copy in enumerate(batch.copies):
            word = copy.word
            if any(until is not None and copy.at <= until for _, until in self.monitors[word.job.monitor_id].off):
                self.told_late.add(word.job)
            # A batch refuses by the monitor as it was a moment ago.
            was_refused = number in batch.refused and word.job.monitor_id in unsure
            self.hear(copy, "refused" if was_refused else self.fate_of(word))

    def tick(self, tick: datetime) -> None:
        """The clock comes to a tick, everywhere."""
        for place in self.places.values():
            place.tick(tick)


def with_rules_of_their_instant(copies: Sequence[Copy]) -> list[Copy]:
    """Return the messages behind which another one of the same instant brings a configuration for their monitor.

    They are judged by it, unless the batch was divided between the two, because of a message that cannot be stored.
    """
    return [
        copy
        for number, copy in enumerate(copies)
        for later in copies[number + 1 :]
        if later.word.config is not None
        and later.at == copy.at
        and later.word.job.monitor_id == copy.word.job.monitor_id
    ]


def account_in_order_of_commits(world: World, deaf: frozenset[datetime]) -> Account:
    """What the transactions, one after the other, should have led to."""
    account = Account(world, deaf)
    for account.number, entry in enumerate(world.history):
        match entry:
            case BatchStored():
                account.store(entry, world.history[entry.begun : account.number])
            case Edited(monitor_id, at, changes, is_active):
                account.change(monitor_id, at, changes, is_active)
            case TickApplied(kind, shard, first):
                own = [place for job, place in account.places.items() if job.monitor_id % SHARDS == shard]
                since = first if kind is TaskKind.UNKNOWN else None
                for place, tick in product(own, entry.ticks()):
                    if kind is not TaskKind.TIMEOUT:
                        place.slots(tick, first=since)
                    if kind is not TaskKind.MISSED:
                        place.timeouts(tick, first=since)
    return account


def account_in_order_of_time(world: World, deaf: frozenset[datetime], until: datetime, in_commits: Account) -> Account:
    """What should have happened if everything had been stored when it came, and no tick had been late.

    What a disabled monitor takes is decided when it is stored; of two edits the one holds that was stored last. Of what
    happens at one instant, the tick comes first (D20), and then what was stored first.
    """
    account = Account(world, deaf)
    ticks = [START + number * MINUTE for number in range((until - START) // MINUTE + 1)]
    events: list[tuple[datetime, int, Edit | Copy | None]] = [(tick, -1, None) for tick in ticks]
    events += [(edit.at, edit.number, edit) for edit in in_commits.edits]
    for number, entry in enumerate(world.history):
        if isinstance(entry, BatchStored):
            events += [(copy.at, number, copy) for copy in entry.copies]
    for at, _, what in sorted(events, key=lambda event: event[:2]):
        match what:
            case Edit():
                account.apply(what)
            case Copy():
                account.hear(what, in_commits.fates[id(what)])
            case None:
                account.tick(at)
    return account


def stored(world: World) -> list[Copy]:
    """All messages that were stored, in the order of the commits."""
    return [copy for entry in world.history if isinstance(entry, BatchStored) for copy in entry.copies]


def passed_unannounced(world: World) -> set[Job]:
    """Return whose messages the clock may have passed: their node had never registered, so it could not wait for them.

    What is stored after its tick is judged by the next one. Of these it is known what follows from the order of the
    commits, and not that this is what should have happened in time.
    """
    return {
        copy.word.job
        for copy in stored(world)
        if copy.announced_at is not None and copy.announced_at.replace(second=0, microsecond=0) > copy.at
    }

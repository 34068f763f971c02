"""Clients: what jobs report of their runs, and how they go on when they are answered, or are not."""

import random
import uuid
from collections import deque
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from drills.oracle.rules import MINUTE
from drills.simulation.node import Copy, Word
from drills.simulation.rules import SECOND, START, Changes, Job

if TYPE_CHECKING:
    from drills.simulation.world import World


class Clients:
    """The clients of all jobs of a world, each with the node that it sends to."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._nodes = {job: world.nodes[number % len(world.nodes)] for number, job in enumerate(world.jobs)}
        self._waiting: dict[Word, deque[tuple[str, timedelta]]] = {}

    def plan(self, job: Job) -> None:
        """Decide what a job does at its slots."""
        chance = self.world.chance
        minutes = [minute for minute in range(self.world.minutes) if minute % job.rules.every == 0]
        for number in minutes:
            begin = START + number * MINUTE + timedelta(seconds=chance.choice([0, 0, 2, 20, 45, 59]))
            second = timedelta(seconds=chance.choice([1, 20, 58, 60, 75]))
            late = job.rules.runtime * MINUTE + timedelta(seconds=chance.choice([0, 5, 70]))
            story: list[tuple[str, timedelta]] = chance.choice(
                [
                    [("in_progress", begin - begin), ("ok", second)],
                    [("in_progress", begin - begin), ("ok", second)],
                    [("in_progress", begin - begin), ("error", second)],
                    [("in_progress", begin - begin), ("in_progress", second), ("ok", second)],
                    [("in_progress", begin - begin), ("ok", late)],
                    [("in_progress", begin - begin)],
                    [("in_progress", begin - begin), ("error", second), ("ok", second)],
                    [("ok", begin - begin)],
                    [("ok", timedelta(minutes=job.rules.margin, seconds=chance.choice([0, 1, 61])))],
                    [("error", begin - begin)],
                    [],
                    [],
                ]
            )
            if story:
                run = uuid.UUID(int=chance.getrandbits(128), version=4)
                self._continue_run(job, run, deque(story), begin)
        if job.monitor_id in self.world.limits:
            self._plan_more(job)

    def _plan_more(self, job: Job) -> None:
        """Decide on more runs of a job with limits, which end ok mostly: a median and an overlap need some."""
        dice = random.Random(f"runs {self.world.seed} {job}")  # noqa: S311 - repeatable, and no secret
        is_compared = self.world.limits[job.monitor_id].slow_times is not None
        for _ in range(dice.choice([8, 12] if is_compared else [3, 5, 7])):
            begin = START + dice.randrange(self.world.minutes * 60) * SECOND
            lasts = timedelta(seconds=dice.choice([2, 10, 10, 25, 40, 55]))
            story = [("in_progress", timedelta(0)), ("ok", lasts)]
            if dice.random() < 0.2:
                story.insert(1, ("error", lasts / 2))
            run = uuid.UUID(int=dice.getrandbits(128), version=4)
            self._continue_run(job, run, deque(story), begin)

    def _continue_run(self, job: Job, run: uuid.UUID, story: deque[tuple[str, timedelta]], now: datetime) -> None:
        """The job's next word, some time after the last one was answered."""
        if story:
            status, pause = story.popleft()
            word = Word(job, run, status, self._config_of(job, status))
            self._waiting[word] = story
            self.world.at(now + pause, lambda: self._send(word))

    def _config_of(self, job: Job, status: str) -> Changes | None:
        """What an SDK sends along: with a start mostly, and from one deploy to the next it may be something else."""
        configs = self.world.configs[job.monitor_id]
        if not configs or self.world.chance.random() < (0.3 if status == "in_progress" else 0.8):
            return None
        return self.world.chance.choice(configs)

    def _send(self, word: Word) -> None:
        node = self._nodes[word.job]
        if node.is_up:
            node.receive(word)
            self.world.note(f"{word.job} says {word.status} of {word.run.hex[:4]} to {node.name}")
        elif self.world.is_recovering or self.world.chance.random() < 0.7:
            self.world.at(self.world.now + 8 * SECOND, lambda: self._send(word))
        else:
            self._waiting.pop(word)

    def forget(self, copies: list[Copy]) -> None:
        """These clients get no answer. Some try again, some do not."""
        for copy in copies:
            if copy.word.is_answered:
                continue
            if self.world.chance.random() < 0.7:
                word = copy.word
                self.world.at(
                    self.world.now + self.world.chance.choice([1, 10, 40]) * SECOND, partial(self._send, word)
                )
            else:
                self._waiting.pop(copy.word, None)

    def answer(self, copy: Copy) -> None:
        """A client hears that its message is safe."""
        copy.word.is_answered = True
        self.world.acknowledged.append(copy)
        story = self._waiting.pop(copy.word, None)
        if story is not None:
            self._continue_run(copy.word.job, copy.word.run, story, self.world.now)

"""Channels and routes of a world, and who is to be told of what: by plain loops, and without the product."""

import random
from dataclasses import dataclass, replace

DEFAULT = "people@example.org"
"""ALERT_EMAIL_TO."""
KINDS = ("email", "webhook", "pagerduty", "opsgenie", "slack", "discord")


@dataclass(frozen=True)
class RoutePlan:
    """A route: the kind of failure that it is for, or any, and the numbers of its channels.

    `steps` are those of its escalation: minutes, and the numbers of channels.
    """

    kind: str
    channels: frozenset[int]
    continues: bool = False
    is_enabled: bool = True
    reminder_hours: int | None = None
    steps: tuple[tuple[int, tuple[int, ...]], ...] = ()
    loops: int = 0


@dataclass(frozen=True)
class Config:
    """All routes, the kinds of the channels by number, and which of these are enabled and not removed.

    `unfolded` channels have a message for each incident; `quiet` ones have quiet hours that begin soon. `depends` are
    monitors with those that they depend on.
    """

    routes: tuple[RoutePlan, ...]
    kinds: tuple[str, ...]
    usable: frozenset[int]
    unfolded: frozenset[int] = frozenset()
    quiet: frozenset[int] = frozenset()
    depends: tuple[tuple[int, int], ...] = ()

    def told(self, kind: str) -> frozenset[int | None]:
        """Return the channels that hear of a failure of this kind; None is ALERT_EMAIL_TO."""
        found: set[int | None] = set()
        is_caught = False
        for route in self.routes:
            if route.is_enabled and route.kind in ("", kind):
                is_caught = True
                found |= route.channels & self.usable
                if not route.continues:
                    break
        return frozenset(found) if is_caught else frozenset([None])


def choose_config(chance: random.Random) -> Config:
    """One to three channels, and up to two routes to them."""
    kinds = tuple(chance.choices(KINDS, k=chance.choice([1, 2, 2, 3])))
    numbers = range(len(kinds))
    routes = [
        RoutePlan(
            kind=chance.choice(["", "", "missed", "error"]),
            channels=frozenset(chance.sample(numbers, chance.randint(1, len(kinds)))),
            continues=chance.random() < 0.3,
            reminder_hours=chance.choice([None, None, 0, 1]),
            steps=tuple(
                (1, tuple(sorted(chance.sample(numbers, chance.randint(1, len(kinds))))))
                for _ in range(chance.choice([0, 0, 1, 2]))
            ),
            loops=chance.choice([0, 1]),
        )
        for _ in range(chance.choice([0, 1, 1, 1, 2]))
    ]
    return Config(
        tuple(routes),
        kinds,
        frozenset(numbers),
        unfolded=frozenset(number for number in numbers if chance.random() < 0.3),
        quiet=frozenset(number for number in numbers if chance.random() < 0.15),
        depends=chance.choice([(), (), (), ((2, 1),), ((2, 1), (3, 2))]),
    )


def choose_edit(chance: random.Random, config: Config) -> Config:
    """What somebody makes of it: another set of channels for a route, or one that is enabled or disabled."""
    if config.routes and chance.random() < 0.6:
        number = chance.randrange(len(config.routes))
        route = config.routes[number]
        if chance.random() < 0.3:
            route = replace(route, is_enabled=not route.is_enabled)
        else:
            numbers = range(len(config.kinds))
            route = replace(route, channels=frozenset(chance.sample(numbers, chance.randint(0, len(config.kinds)))))
        return replace(config, routes=(*config.routes[:number], route, *config.routes[number + 1 :]))
    return replace(config, usable=config.usable ^ {chance.randrange(len(config.kinds))})

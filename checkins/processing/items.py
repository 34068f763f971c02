"""The messages of a batch on their way: what each is about, and why one is refused."""

from dataclasses import dataclass

import msgspec

from checkins.messages import CheckInMessage, LogMessage, Outcome, Problem, ProblemKind
from monitors.configuration import Configuration
from monitors.state import MonitorRules, MonitorStatus


class KnownMonitor(msgspec.Struct, frozen=True):
    """What messages have to know of a monitor. Not a model instance: making those took a third of a batch's time."""

    id: int
    status: MonitorStatus
    is_upserting: bool
    owner: str
    rules: MonitorRules
    is_locked: bool = False
    refused: tuple[str, ...] = ()

    def has_in_force(self, config: Configuration) -> bool:
        """Tell whether the monitor would stay as it is."""
        return self.is_upserting and not config.differs_from(self.rules, self.owner)


@dataclass(slots=True)
class BatchItem:
    """One message on its way through the batch. `environment_id` is set while nothing has refused it.

    `begins_without_config`: it begins a new run, and says nothing of its monitor, which its job has configured so far.
    """

    message: CheckInMessage | LogMessage
    outcome: Outcome
    monitor: KnownMonitor | None = None
    environment_id: int | None = None
    is_hinted: bool = False
    begins_without_config: bool = False

    @property
    def key(self) -> tuple[int, str]:
        """Project and slug, by which the monitor is found."""
        return self.message.project_id, self.message.slug

    @property
    def config(self) -> Configuration | None:
        """The configuration that updates the monitor, or creates it."""
        return self.message.config if isinstance(self.message, CheckInMessage) else None

    @property
    def first_config(self) -> Configuration | None:
        """The configuration that the monitor gets if it is not there yet."""
        return self.config or self.message.config_if_new

    @property
    def ignored(self) -> tuple[Problem, ...]:
        """What the configuration holds and nobody knows."""
        return self.message.config_ignored if isinstance(self.message, CheckInMessage) else ()

    def refuse(self, kind: ProblemKind, field_name: str, value: str, text: str) -> None:
        """Note why the message is not taken, for its sender and for the project's people."""
        self.outcome.problems.append(Problem(kind, field_name, value, text))


def refuse_as_disabled(item: BatchItem) -> None:
    """Note that the item's monitor is disabled and takes no such message."""
    item.refuse(
        ProblemKind.MONITOR_DISABLED,
        "monitor_slug",
        item.message.slug,
        f"monitor_slug {item.message.slug!r} is disabled and takes no check-ins but the ends of runs that it knows; "
        "enable it to go on.",
    )


def monitor_not_found(message: CheckInMessage | LogMessage) -> Problem:
    """What is wrong with a message whose monitor nobody knows."""
    return Problem(
        ProblemKind.MONITOR_NOT_FOUND,
        "monitor_slug",
        message.raw_slug,
        f"monitor_slug {message.raw_slug!r} is not known in this project; "
        "create the monitor, or send a monitor_config with the check-in.",
    )

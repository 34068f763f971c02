"""The messages of a batch during its processing: their monitors and environments, and their refusals."""

from dataclasses import dataclass

import msgspec

from checkins.messages import CheckInMessage, LogMessage, Outcome, Problem, ProblemKind
from monitors.configuration import Configuration
from monitors.state import MonitorRules, MonitorStatus


class KnownMonitor(msgspec.Struct, frozen=True):
    """The facts about a monitor that messages need. Not a model instance: creating these took a third of the time."""

    id: int
    status: MonitorStatus
    is_upserting: bool
    owner: str
    rules: MonitorRules
    is_locked: bool = False
    refused: tuple[str, ...] = ()

    def has_in_force(self, config: Configuration) -> bool:
        """Return whether a configuration changes nothing."""
        return self.is_upserting and not config.differs_from(self.rules, self.owner)


@dataclass(slots=True)
class BatchItem:
    """One message during the processing of its batch. `environment_id` is set as long as it is not refused.

    `begins_without_config`: it begins a new run without configuration of a monitor that its job has configured so far.
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
        """The configuration with which the monitor is created if it does not exist yet."""
        return self.config or self.message.config_if_new

    @property
    def ignored(self) -> tuple[Problem, ...]:
        """Unknown parts of the configuration."""
        return self.message.config_ignored if isinstance(self.message, CheckInMessage) else ()

    def refuse(self, kind: ProblemKind, field_name: str, value: str, text: str) -> None:
        """Record why the message is refused, for its sender and for the people of the project."""
        self.outcome.problems.append(Problem(kind, field_name, value, text))


def refuse_as_disabled(item: BatchItem) -> None:
    """Refuse an item because its monitor is disabled."""
    item.refuse(
        ProblemKind.MONITOR_DISABLED,
        "monitor_slug",
        item.message.slug,
        f"monitor_slug {item.message.slug!r} is disabled and accepts no check-ins but the ends of known runs; "
        "enable it to continue.",
    )


def monitor_not_found(message: CheckInMessage | LogMessage) -> Problem:
    """Return the problem of a message whose monitor does not exist."""
    return Problem(
        ProblemKind.MONITOR_NOT_FOUND,
        "monitor_slug",
        message.raw_slug,
        f"monitor_slug {message.raw_slug!r} is not known in this project; "
        "create the monitor, or send a monitor_config with the check-in.",
    )

"""What was received: check-ins, what belongs to them, what could not be used, and the processes that received it."""

from checkins.models.apart import ClientLossReport, KeyUse, ProcessingError, WaitingCheckIn
from checkins.models.ingest import IngestNode, ListeningSpan, LostSpan, MinuteVolume
from checkins.models.runs import Attempt, CheckIn, CheckInLog, DeferredEnding, RunningCheckIn
from checkins.models.statistics import RecentRuns, RunHour

__all__ = [
    "Attempt",
    "CheckIn",
    "CheckInLog",
    "ClientLossReport",
    "DeferredEnding",
    "IngestNode",
    "KeyUse",
    "ListeningSpan",
    "LostSpan",
    "MinuteVolume",
    "ProcessingError",
    "RecentRuns",
    "RunHour",
    "RunningCheckIn",
    "WaitingCheckIn",
]

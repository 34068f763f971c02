"""Days of check-ins for a test that needs one which no migration made."""

import time

from checkins import partitions
from checkins.partitions import Partition


def make_day(partition: Partition) -> None:
    """Make a partition, however long autovacuum keeps the table from us."""
    partitions._tried(lambda: partitions._create(partition), time.sleep, partitions.TRIES_MAX)

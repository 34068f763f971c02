"""The errors of this app have one root, so that a caller can catch all of them and nothing else."""


class MonitorsError(Exception):
    """Something about a monitor that cannot be used or stored. The text says why."""

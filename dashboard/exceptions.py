"""The errors of the pages."""


class DashboardError(Exception):
    """Something that a person asked for cannot be done. The text says why."""

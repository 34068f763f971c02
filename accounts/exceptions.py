"""Errors of this app."""


class MembershipError(Exception):
    """The members of a project cannot be changed so. The text is one sentence for the person who tried."""

"""Members of a project with each role, and a stranger."""

import re
from html import unescape

import pytest
from django.test import Client

from accounts.roles import Role
from tests import factories
from tests.dashboard.conftest import client_of


@pytest.fixture
def incident(db):
    """An open incident with a failure."""
    row = factories.IncidentFactory(issue__title="Job failing: nightly")
    factories.OccurrenceFactory(incident=row)
    return row


@pytest.fixture
def environment(incident):
    return incident.monitor_environment


@pytest.fixture
def monitor(environment):
    return environment.monitor


@pytest.fixture
def as_role(monitor):
    """Return a client of a new member with this role in the project of `monitor`."""

    def log_in(role: Role | str) -> Client:
        return client_of(factories.MembershipFactory(project=monitor.project, role=role).user)

    return log_in


@pytest.fixture
def stranger(db) -> Client:
    """Somebody who is a member of another project."""
    return client_of(factories.MembershipFactory(role="owner").user)


def words(response) -> str:
    """The text of a page without its tags, blanks joined."""
    text = re.sub(r"<(script|style).*?</\1>|<[^>]+>", " ", response.content.decode(), flags=re.DOTALL)
    return " ".join(unescape(text).split())

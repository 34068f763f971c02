"""The settings of a monitor: only what a person changed is written, by those who may, and the audit log notes it."""

import pytest
from django.urls import reverse

from audit.models import AuditEntry
from monitors.dependencies import DependencyError
from monitors.limits import Limits, Rule, parse_bound, read_limits
from monitors.models import Dependency, Monitor
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(monitor):
    return reverse("edit-monitor", args=[monitor.project.slug, monitor.slug])


@pytest.fixture
def fill(address):
    """Return what a browser sends for the form as it is, with some fields changed."""

    def fill(client, **changes):
        form = client.get(address).context["form"]
        sent = {}
        for field in form:
            value = field.value()
            value = ",".join(value) if isinstance(value, list) else value
            sent[field.html_initial_name] = sent[field.html_name] = "" if value is None else value
        sent = {name: value for name, value in sent.items() if value is not False} | changes
        return {name: value for name, value in sent.items() if value is not None}

    return fill


def test_what_a_person_changed_is_written_and_audited(as_role, monitor, address, fill):
    upstream = factories.MonitorFactory(project=monitor.project, slug="database")
    client = as_role("editor")
    changes = {
        "name": "Nightly backup",
        "severity": "critical",
        "owner": "team:platform",
        "tags": "shop,nightly",
        "failure_threshold": "3",
        "longer_than": "10m",
        "longer_is": "failure",
        "depends_on": "database",
        "has_private_logs": "on",
    }
    response = client.post(address, fill(client, **changes), follow=True)
    assert "Nightly backup was changed." in words(response)
    monitor.refresh_from_db()
    assert (monitor.name, monitor.severity, monitor.owner) == ("Nightly backup", "critical", "team:platform")
    assert (monitor.failure_threshold, monitor.has_private_logs) == (3, True)
    assert read_limits(monitor.limits) == Limits(longer=Rule(parse_bound("10m", is_upper=True), counts=True))
    assert sorted(monitor.tags) == ["nightly", "shop"]
    assert Dependency.objects.get(downstream=monitor).upstream == upstream
    assert {entry.source for entry in AuditEntry.objects.filter(kind="monitor")} == {"page"}


def test_what_somebody_else_changed_meanwhile_is_not_written_back(as_role, monitor, address, fill):
    client = as_role("editor")
    sent = fill(client, name="Mine")
    Monitor.objects.filter(pk=monitor.pk).update(severity="critical")
    client.post(address, sent)
    monitor.refresh_from_db()
    assert (monitor.name, monitor.severity) == ("Mine", "critical")
    sent = fill(client, name="Mine again")
    Monitor.objects.filter(pk=monitor.pk).update(name="Yours")
    response = client.post(address, sent)
    assert response.status_code == 422
    assert "It was changed from “Mine” to “Yours” while this page was open" in words(response)


@pytest.mark.parametrize(
    ("changes", "words_of_error"),
    [
        ({"slug": "No Slug"}, "no-slug, for example."),
        ({"slug": "taken"}, "The project already has a monitor with the slug taken."),
        ({"failure_threshold": "0"}, "Enter a whole number from 1 to"),
        ({"longer_than": "soon"}, "soon"),
        ({"depends_on": "nothing"}, "nothing"),
    ],
)
def test_a_wrong_value_stands_beside_its_field_with_what_is_allowed(
    as_role, monitor, address, fill, changes, words_of_error
):
    factories.MonitorFactory(project=monitor.project, slug="taken")
    client = as_role("editor")
    response = client.post(address, fill(client, **changes))
    assert response.status_code == 422
    [(name, errors)] = response.context["form"].errors.items()
    assert name in changes
    assert words_of_error in errors[0]


def test_a_new_slug_leads_to_the_page_at_its_new_address(as_role, monitor, address, fill):
    client = as_role("editor")
    response = client.post(address, fill(client, slug="another"))
    assert response.url == reverse("monitor", args=[monitor.project.slug, "another"])


def test_it_shows_what_check_ins_have_changed(as_role, monitor, address):
    monitor.config_changes.create(
        changed_at=factories.NOW, made_by="the key default", difference={"crontab": ["0 3 * * *", "0 4 * * *"]}
    )
    page = words(as_role("editor").get(address))
    assert "Changes by check-ins" in page
    assert "the key default crontab: 0 3 * * * → 0 4 * * *" in page


def test_owners_delete_a_monitor_and_editors_do_not(as_role, monitor, address):
    editor = as_role("editor")
    assert "Yes, delete" not in words(editor.get(address))
    assert editor.post(address, {"do": "delete"}).status_code == 403
    owner = as_role("owner")
    assert "Yes, delete" in words(owner.get(address))
    response = owner.post(address, {"do": "delete"}, follow=True)
    assert "was deleted." in words(response)
    assert not Monitor.objects.not_deleted().filter(pk=monitor.pk).exists()


def test_a_circle_that_somebody_closes_at_this_instant_is_refused_at_its_field(
    as_role, monitor, address, fill, monkeypatch
):
    factories.MonitorFactory(project=monitor.project, slug="other")

    def refuse(*_arguments, **_options):
        raise DependencyError("It would depend on itself: a → b → a.")

    monkeypatch.setattr("dashboard.monitor_form.set_upstreams", refuse)
    client = as_role("editor")
    response = client.post(address, fill(client, depends_on="other", name="renamed"))
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["depends_on"])
    monitor.refresh_from_db()
    assert monitor.name != "renamed"

"""A monitor whose schedule is learned: the admin says so, and never shows the crontab that stands for it in the row."""

import pytest
from django.urls import reverse

from monitors.models import Monitor
from monitors.schedule import LEARNING_CRONTAB
from tests import factories
from tests.dashboard.conftest import client_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def learner():
    return factories.MonitorFactory(slug="backup", crontab=LEARNING_CRONTAB, timezone="Europe/Vienna")


@pytest.fixture
def address(learner):
    return reverse("admin:monitors_monitor_change", args=[learner.pk])


@pytest.fixture
def save(admin_client, address):
    """Save the form of the page with these fields changed."""

    def send(**changed):
        form = admin_client.get(address).context["adminform"].form
        sent = {name: form[name].value() for name in form.fields} | {
            form[name].html_initial_name: form[name].value() for name in form.fields
        }
        sent = {name: value for name, value in sent.items() if value not in (None, False)}
        return admin_client.post(address, sent | changed)

    return send


def test_no_page_shows_the_crontab(admin_client, staff_client, learner, address):
    factories.IngestKeyFactory(project=learner.project)
    environment = factories.MonitorEnvironmentFactory(monitor=learner)
    run = factories.CheckInFactory(monitor_environment=environment, config__crontab=LEARNING_CRONTAB)
    entry = factories.AuditEntryFactory(
        project_id=learner.project_id, object_id=learner.pk, changes={"crontab": [LEARNING_CRONTAB, "0 3 * * *"]}
    )
    pages = {
        address: "Learning: no schedule yet",
        reverse("admin:monitors_monitor_changelist"): "Learning: no schedule yet",
        reverse("admin:checkins_checkin_change", args=[run.pk]): "not known yet: it is learned",
        reverse("admin:audit_auditentry_change", args=[entry.pk]): "not known yet: it is learned",
    }
    for client in (admin_client, staff_client):
        for page, sentence in pages.items():
            text = client.get(page).content.decode()
            assert LEARNING_CRONTAB not in text, page
            assert sentence in text, page


def test_the_field_has_a_word_that_is_kept(save, learner):
    assert save(name="Another name").status_code == 302
    assert (Monitor.objects.get().name, Monitor.objects.get().crontab) == ("Another name", LEARNING_CRONTAB)
    assert save(timezone="Asia/Tokyo").status_code == 302
    assert (Monitor.objects.get().timezone, Monitor.objects.get().crontab) == ("Asia/Tokyo", LEARNING_CRONTAB)


def test_a_crontab_in_its_place_ends_the_learning_and_the_word_begins_it_again(save, learner):
    assert save(crontab="0 3 * * *").status_code == 302
    assert Monitor.objects.get().crontab == "0 3 * * *"
    assert save(crontab="learning").status_code == 302
    assert Monitor.objects.get().schedule().is_learning


def test_the_preview_understands_the_word(admin_client):
    query = {"schedule_type": "crontab", "crontab": "learning", "timezone": "UTC"}
    answer = admin_client.get(reverse("admin:monitors_monitor_preview"), query).json()
    assert answer == {"text": "Learning: no schedule yet", "times": answer["times"]}


def test_lines_to_paste_have_an_example_as_their_crontab(as_editor, learner):
    page = as_editor(learner.project).get(reverse("monitor", args=[learner.project.slug, learner.slug]))
    assert LEARNING_CRONTAB not in page.content.decode()
    assert "0 * * * *" in page.content.decode()


@pytest.fixture
def as_editor():
    return lambda project: client_of(factories.MembershipFactory(project=project, role="editor").user)

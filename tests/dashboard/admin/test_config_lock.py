"""D40 in the admin: locking what people set, and seeing what check-ins changed."""

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from checkins.processing.apply import receive
from monitors.services import lock_config_of_project
from tests import factories
from tests.dashboard.admin.test_editing import OpenPage, now_in
from tests.factories import NOW
from tests.messages import make_config, make_message

pytestmark = pytest.mark.django_db


@pytest.fixture
def monitor():
    return factories.MonitorFactory(slug="backup", crontab="0 3 * * *")


def check_in(monitor, **fields):
    message = make_message("ok", monitor=monitor, config=make_config("30 5 * * *"), **fields)
    [outcome] = receive([message], now=NOW)
    return [problem.kind.value for problem in outcome.problems]


def page_for(monitor, *permissions):
    user = User.objects.create_user("member", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client.get(reverse("admin:monitors_monitor_change", args=[monitor.pk])).text


@pytest.mark.parametrize(("chosen", "value"), [("true", True), ("false", False), ("unknown", None)])
def test_d40_a_person_locks_a_monitor_and_unlocks_it(admin_client, monitor, chosen, value):
    page = OpenPage(admin_client, monitor)

    assert page.save(is_config_locked=chosen).is_saved
    assert now_in(monitor, "is_config_locked", "crontab") == (value, "0 3 * * *")


def test_d40_a_page_that_is_saved_as_it_is_leaves_the_lock_and_what_was_told(admin_client, monitor):
    assert OpenPage(admin_client, monitor).save(is_config_locked="true").is_saved
    assert check_in(monitor) == ["MONITOR_CONFIG_LOCKED"]

    assert OpenPage(admin_client, monitor).save(name="Other").is_saved
    assert now_in(monitor, "is_config_locked") == (True,)
    assert check_in(monitor) == []


def test_d40_the_checkbox_of_the_project_is_the_default_of_its_monitors(admin_client, monitor):
    page = OpenPage(admin_client, monitor.project)

    assert page.save(is_config_locked="on").is_saved
    assert check_in(monitor) == ["MONITOR_CONFIG_LOCKED"]
    assert now_in(monitor, "crontab") == ("0 3 * * *",)


def test_d40_the_page_says_that_the_jobs_configuration_is_refused(admin_client, monitor):
    url = reverse("admin:monitors_monitor_change", args=[monitor.pk])
    check_in(monitor)
    assert "may overwrite what is edited here" in admin_client.get(url).text

    lock_config_of_project(monitor.project_id, True)
    text = admin_client.get(url).text
    assert "may overwrite what is edited here" not in text
    assert "It is refused: what is set here stays" in text


def test_d40_the_page_shows_what_check_ins_changed_with_the_label_of_the_key(monitor):
    key = factories.IngestKeyFactory(project=monitor.project, label="nightly ci")
    check_in(monitor, key_id=key.pk)

    text = page_for(monitor, "view_monitor", "view_configchange")
    assert "Changes by check-ins" in text
    assert "nightly ci" in text
    assert "crontab: 0 3 * * * → 30 5 * * *" in text
    assert key.public_key not in text


def test_d40_who_may_not_look_at_changes_sees_none(monitor):
    check_in(monitor)

    assert "Changes by check-ins" not in page_for(monitor, "view_monitor")

"""D41: two people who edit the same row, or a person and a job, lose nothing."""

import html
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.urls import reverse

from checkins.editing import set_monitors_status, update_monitor
from checkins.processing.apply import receive
from monitors.hot_rows import lock_environments
from monitors.models import IngestKey
from monitors.state import MonitorStatus
from tests import factories
from tests.connections import in_another_connection
from tests.dashboard.admin.browsing import form_of
from tests.dashboard.wall import set_clock
from tests.factories import NOW
from tests.messages import make_config, make_message


def url_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


class OpenPage:
    """The page of a row as somebody has it open; what others do meanwhile does not reach it."""

    def __init__(self, client, row):
        self.client, self.url = client, url_of(row)
        self.form_id = f"{row._meta.model_name}_form"
        self._take(client.get(self.url))

    def _take(self, response):
        self.held = form_of(response.text, self.form_id)

    def save(self, **changes):
        """Type something and save; if it is refused, the page that comes back is open then."""
        self.held |= {name: value if isinstance(value, list) else [value] for name, value in changes.items()}
        sent = {name: value for name, value in self.held.items() if value != [None]}
        response = self.client.post(self.url, sent)
        errors = {}
        if response.status_code == 200:
            self._take(response)
            errors = {name: list(told) for name, told in response.context["adminform"].form.errors.items()}
        return SimpleNamespace(is_saved=response.status_code == 302, errors=errors, text=html.unescape(response.text))


@pytest.fixture
def monitor(db):
    return factories.MonitorFactory(name="Backup", slug="backup", crontab="0 3 * * *", owner="team:a", tags=["x"])


@pytest.fixture
def open_page(admin_client):
    return lambda row: OpenPage(admin_client, row)


def now_in(row, *names):
    row = type(row).objects.get(pk=row.pk)
    return tuple(getattr(row, name) for name in names)


def test_d41_a_page_that_is_saved_as_it_is_writes_nothing(open_page, monitor):
    page = open_page(monitor)
    update_monitor(monitor.pk, {"name": "Other", "crontab": "0 4 * * *"}, now=NOW)

    assert page.save().is_saved
    assert now_in(monitor, "name", "crontab", "tags") == ("Other", "0 4 * * *", ["x"])


def test_d41_two_people_who_change_different_fields_both_have_their_way(open_page, monitor):
    first, second = open_page(monitor), open_page(monitor)

    assert first.save(name="Nightly backup", max_runtime="45").is_saved
    assert second.save(owner="team:b", tags="x,y", timezone="Europe/Vienna").is_saved
    assert now_in(monitor, "name", "max_runtime", "owner", "tags", "timezone", "crontab") == (
        "Nightly backup",
        45,
        "team:b",
        ["x", "y"],
        "Europe/Vienna",
        "0 3 * * *",
    )


def test_d41_what_both_changed_is_refused_with_both_values_and_nothing_is_written(open_page, monitor):
    first, second = open_page(monitor), open_page(monitor)
    first.save(name="First")

    refused = second.save(name="Second", owner="team:b")

    assert refused.errors == {
        "name": [
            "It was changed from “Backup” to “First” while this page was open. Yours: “Second”. "
            "Save again to replace it with yours."
        ]
    }
    assert refused.errors["name"][0] in refused.text
    assert now_in(monitor, "name", "owner") == ("First", "team:a")


def test_d41_who_saves_again_has_seen_the_other_value(open_page, monitor):
    first, second = open_page(monitor), open_page(monitor)
    first.save(name="First")
    second.save(name="Second", owner="team:b")

    assert second.save().is_saved
    assert now_in(monitor, "name", "owner") == ("Second", "team:b")


def test_d41_a_third_value_meanwhile_is_refused_again(open_page, monitor):
    first, second = open_page(monitor), open_page(monitor)
    first.save(name="First")
    second.save(name="Second")
    update_monitor(monitor.pk, {"name": "Third"}, now=NOW)

    assert "from “First” to “Third”" in second.save().errors["name"][0]
    assert now_in(monitor, "name") == ("Third",)


def test_d41_the_same_change_twice_is_no_contradiction(open_page, monitor):
    first, second = open_page(monitor), open_page(monitor)

    assert first.save(name="Same").is_saved
    assert second.save(name="Same").is_saved


def test_d41_a_monitor_that_was_disabled_meanwhile_stays_disabled(open_page, monitor):
    row = factories.MonitorEnvironmentFactory(monitor=monitor)
    page = open_page(monitor)
    set_monitors_status([monitor.pk], MonitorStatus.DISABLED, now=NOW)

    assert page.save(name="Another name", checkin_margin="9").is_saved
    assert now_in(monitor, "status", "name", "checkin_margin") == ("disabled", "Another name", 9)
    assert now_in(row, "next_checkin_latest") == (None,)


def test_d41_a_monitor_that_was_muted_meanwhile_stays_muted(open_page, admin_client, monitor):
    page = open_page(monitor)
    url = reverse("admin:monitors_monitor_changelist")
    admin_client.post(url, {"action": "mute", "_selected_action": [monitor.pk]})

    page.save(name="Another name")

    assert now_in(monitor, "is_muted", "name") == (True, "Another name")


def check_in(monitor, crontab, **config):
    receive([make_message("ok", monitor=monitor, run=1, config=make_config(crontab, **config))], now=NOW)


def test_d41_a_check_in_that_changed_another_field_is_kept(open_page, monitor):
    page = open_page(monitor)
    check_in(monitor, "30 5 * * *")

    assert page.save(failure_threshold="3").is_saved
    assert now_in(monitor, "crontab", "failure_threshold") == ("30 5 * * *", 3)


def test_d41_a_check_in_that_changed_the_same_field_is_shown(open_page, monitor):
    page = open_page(monitor)
    check_in(monitor, "30 5 * * *")

    refused = page.save(crontab="0 6 * * *")

    [told] = refused.errors["crontab"]
    assert "from “0 3 * * *” to “30 5 * * *” while this page was open. Yours: “0 6 * * *”" in told
    assert now_in(monitor, "crontab") == ("30 5 * * *",)
    assert page.save().is_saved
    assert now_in(monitor, "crontab") == ("0 6 * * *",)


def test_d41_crontab_and_interval_are_one_thing(open_page, monitor):
    page = open_page(monitor)
    update_monitor(monitor.pk, {"crontab": "0 4 * * *"}, now=NOW)

    refused = page.save(schedule_type="interval", interval="2", interval_unit="hour")

    assert refused.errors["__all__"] == [
        "Crontab was changed from “0 3 * * *” to “0 4 * * *” while this page was open; it belongs to what you "
        "changed. Save again to replace it with yours."
    ]
    assert page.save().is_saved
    assert now_in(monitor, "schedule_type", "crontab", "interval") == ("interval", None, 2)


def test_d41_a_schedule_that_two_changes_make_together_is_checked(open_page, monitor):
    """A new zone is checked with the crontab that the row holds, not with the one on the page."""
    page = open_page(monitor)
    update_monitor(
        monitor.pk,
        {"schedule_type": "interval", "crontab": None, "interval": 1, "interval_unit": "day"},
        now=NOW,
    )

    assert page.save(timezone="Asia/Tokyo").is_saved
    assert now_in(monitor, "schedule_type", "crontab", "interval", "timezone") == ("interval", None, 1, "Asia/Tokyo")


def test_d41_a_form_that_says_nothing_of_what_its_page_held_means_the_row_as_it_is(open_page, monitor):
    page = open_page(monitor)
    page.held = {name: value for name, value in page.held.items() if not name.startswith("initial-")}
    update_monitor(monitor.pk, {"name": "Other"}, now=NOW)

    assert page.save().is_saved
    assert now_in(monitor, "name") == ("Backup",)


def test_d41_projects_and_their_keys_keep_what_somebody_else_changed(open_page, admin_client):
    project = factories.ProjectFactory(name="Shop")
    key = factories.IngestKeyFactory(project=project, label="jobs")
    page, other = open_page(project), open_page(key)

    assert other.save(is_active=None).is_saved
    assert page.save(name="Shop 2", **{"ingest_keys-0-label": "old jobs"}).is_saved
    assert now_in(key, "is_active", "label") == (False, "old jobs")
    assert now_in(project, "name") == ("Shop 2",)


def test_d41_a_key_that_both_changed_is_refused(open_page):
    key = factories.IngestKeyFactory(label="jobs")
    first, second = open_page(key), open_page(key)
    first.save(label="first")

    assert "from “jobs” to “first”" in second.save(label="second").errors["label"][0]
    assert IngestKey.objects.get().label == "first"


def test_d41_rights_that_somebody_else_took_away_stay_away(open_page):
    first, second = Permission.objects.filter(content_type__app_label="monitors")[:2]
    user = User.objects.create_user("someone", is_staff=True)
    user.user_permissions.set([first, second])
    page = open_page(user)
    User.objects.filter(pk=user.pk).update(is_active=False)
    user.user_permissions.set([first])

    assert page.save(first_name="Some").is_saved
    assert now_in(user, "is_active", "first_name") == (False, "Some")
    assert list(user.user_permissions.all()) == [first]


def test_d41_rights_that_both_changed_are_refused(open_page):
    first, second, third = Permission.objects.filter(content_type__app_label="monitors")[:3]
    group = Group.objects.create(name="operators")
    page = open_page(group)
    group.permissions.set([first])

    refused = page.save(permissions=[str(second.pk), str(third.pk)])

    assert list(refused.errors) == ["permissions"]
    assert list(group.permissions.all()) == [first]
    assert page.save().is_saved
    assert set(group.permissions.all()) == {second, third}


# --- an edit that has to wait -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("by", "first", "column"),
    [
        ("form", MonitorStatus.ACTIVE, "rules_since"),
        ("disable", MonitorStatus.ACTIVE, "disabled_at"),
        ("enable", MonitorStatus.DISABLED, "was_enabled_at"),
    ],
)
def test_d32_an_edit_that_waits_for_the_clock_counts_from_when_it_goes_on(open_page, monkeypatch, by, first, column):
    row = factories.MonitorEnvironmentFactory()
    set_monitors_status([row.monitor_id], first, now=NOW - timedelta(hours=1))
    page = open_page(row.monitor)
    with in_another_connection(lambda: lock_environments([row.id])) as clock:
        waited = timedelta(minutes=2)
        set_clock(monkeypatch, lambda: NOW + waited if clock.was_waited_for else NOW)
        if by == "form":
            page.save(checkin_margin="7")
        else:
            url = reverse("admin:monitors_monitor_changelist")
            page.client.post(url, {"action": by, "_selected_action": [row.monitor_id]})
    assert now_in(row.monitor, column) == (NOW + waited,)

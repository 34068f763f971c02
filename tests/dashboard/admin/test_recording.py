"""What people change in the admin is in the audit log, with the values before and after, and without secrets."""

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection
from django.urls import reverse

from audit.models import AuditEntry
from monitors.models import IngestKey, Monitor, Project
from tests import factories
from tests.dashboard.admin.browsing import form_of


@pytest.fixture
def monitor(db):
    return factories.MonitorFactory(name="Backup", slug="backup", crontab="0 3 * * *", tags=["x"])


def url_of(row):
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def list_of(model):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def save(client, row, **changes):
    """Open the page of a row, change fields, and save. None empties a box."""
    held = form_of(client.get(url_of(row)).text, f"{row._meta.model_name}_form")
    held |= {name: value if isinstance(value, list) else [value] for name, value in changes.items()}
    response = client.post(url_of(row), {name: value for name, value in held.items() if value != [None]})
    assert response.status_code == 302, response.context["errors"]


def run(client, action, *rows):
    sent = {"action": action, "_selected_action": [row.pk for row in rows], "post": "yes"}
    assert client.post(list_of(type(rows[0])), sent).status_code in (200, 302)


def recorded(**of):
    """Actions, objects and changes, in the order in which they were recorded, without looks at secrets."""
    entries = AuditEntry.objects.filter(**of).exclude(action="shown").order_by("id")
    return [(entry.action, entry.kind, entry.object_name, entry.changes) for entry in entries]


def test_an_entry_names_the_person_the_project_and_the_object(admin_client, admin_user, monitor):
    save(admin_client, monitor, owner="team:b")
    entry = AuditEntry.objects.get(action="changed")
    assert (entry.actor_id, entry.actor_name, entry.source) == (admin_user.pk, "admin", "admin")
    assert (entry.project_id, entry.object_id) == (monitor.project_id, monitor.pk)


def test_a_saved_monitor_is_recorded_field_by_field(admin_client, monitor):
    save(admin_client, monitor, name="Nightly", crontab="0 4 * * *", tags="x,y", is_muted="on")
    assert recorded() == [
        ("changed", "monitor", "backup", {"name": ["Backup", "Nightly"], "crontab": ["0 3 * * *", "0 4 * * *"]}),
        ("muted", "monitor", "backup", {"is_muted": [False, True]}),
        ("changed", "monitor", "backup", {"tags": [["x"], ["x", "y"]]}),
    ]


def test_a_page_that_is_saved_as_it_is_leaves_no_entry(admin_client, monitor):
    save(admin_client, monitor)
    save(admin_client, monitor.project)
    assert recorded() == []


def test_a_new_monitor_is_recorded_with_its_configuration(admin_client):
    project = factories.ProjectFactory()
    fields = {"name": "Backup", "slug": "backup", "project": project.pk, "status": "active", "timezone": "UTC"}
    fields |= {"schedule_type": "crontab", "crontab": "0 3 * * *", "checkin_margin": 1, "max_runtime": 30}
    fields |= {"failure_threshold": 1, "recovery_threshold": 1, "severity": "error", "is_config_locked": "unknown"}
    assert admin_client.post(reverse("admin:monitors_monitor_add"), fields).status_code == 302
    [(action, kind, name, changes)] = recorded(project_id=project.pk)
    assert (action, kind, name) == ("created", "monitor", "backup")
    assert changes["crontab"] == [None, "0 3 * * *"]
    assert "guid" not in changes


@pytest.mark.parametrize(
    ("action", "status", "entry"),
    [
        ("mute", "active", ("muted", {"is_muted": [False, True]})),
        ("disable", "active", ("disabled", {"status": ["active", "disabled"]})),
        ("enable", "disabled", ("enabled", {"status": ["disabled", "active"]})),
        ("delete_selected", "active", ("deleted", {})),
    ],
)
def test_actions_on_monitors_are_recorded_once_for_each(admin_client, action, status, entry):
    monitors = [factories.MonitorFactory(slug=slug, status=status) for slug in ("a", "b")]
    run(admin_client, action, *monitors)
    assert recorded() == [(entry[0], "monitor", slug, entry[1]) for slug in ("a", "b")]
    run(admin_client, action, *monitors)
    assert len(recorded()) == 2, "what is so already is not done again"


def test_a_deleted_monitor_is_recorded_by_the_name_that_it_had(admin_client, monitor):
    admin_client.post(reverse("admin:monitors_monitor_delete", args=[monitor.pk]), {"post": "yes"})
    assert Monitor.objects.get().slug != "backup"
    assert recorded() == [("deleted", "monitor", "backup", {})]


def test_actions_on_environments_are_recorded(admin_client, monitor):
    rows = [factories.MonitorEnvironmentFactory(monitor=monitor, environment__name=name) for name in ("live", "test")]
    run(admin_client, "mute", rows[0])
    run(admin_client, "mute", *rows)
    run(admin_client, "unmute", rows[1])
    run(admin_client, "delete_selected", rows[1])
    assert [(action, name) for action, kind, name, _ in recorded(kind="monitor environment")] == [
        ("muted", "backup / live"),
        ("muted", "backup / test"),
        ("unmuted", "backup / test"),
        ("deleted", "backup / test"),
    ]


def test_unmuting_a_monitor_of_which_only_environments_were_muted_is_recorded(admin_client, monitor):
    factories.MonitorEnvironmentFactory(monitor=monitor, is_muted=True)
    run(admin_client, "unmute", monitor)
    assert [entry[:3] for entry in recorded()] == [("unmuted", "monitor", "backup")]


def test_what_people_do_with_issues_is_recorded(admin_client):
    issue = factories.IssueFactory(monitor_environment__monitor__name="Backup")
    for action in ("resolve", "archive", "archive", "unarchive"):
        run(admin_client, action, issue)
    assert recorded(project_id=issue.project_id) == [
        ("resolved", "issue", issue.title, {"status": ["unresolved", "resolved"]}),
        ("archived", "issue", issue.title, {"status": ["resolved", "archived"]}),
        ("unarchived", "issue", issue.title, {"status": ["archived", "unresolved"]}),
    ]


def test_projects_and_their_keys_are_recorded_and_no_key_is_in_an_entry(admin_client):
    sent = {"name": "Shop", "slug": "shop"}
    sent |= {f"{prefix}-{end}_FORMS": "0" for prefix in ("ingest_keys", "memberships") for end in ("TOTAL", "INITIAL")}
    sent |= {"ingest_keys-TOTAL_FORMS": "1", "ingest_keys-0-label": "jobs", "ingest_keys-0-is_active": "on"}
    sent |= {"ingest_keys-0-public_key": "c0ffee00" * 4}
    assert admin_client.post(reverse("admin:monitors_project_add"), sent).status_code == 302
    project, key = Project.objects.get(), IngestKey.objects.get()
    save(admin_client, project, name="Shop 2", **{"ingest_keys-0-label": "old jobs"})
    save(admin_client, key, is_active=None)
    save(admin_client, project, **{"ingest_keys-0-DELETE": "on"})
    assert [entry[:2] for entry in recorded(project_id=project.pk)] == [
        ("created", "ingest key"),
        ("created", "project"),
        ("changed", "ingest key"),
        ("changed", "project"),
        ("changed", "ingest key"),
        ("deleted", "ingest key"),
    ]
    changes = [entry[3] for entry in recorded(action="changed")]
    assert changes == [{"label": ["jobs", "old jobs"]}, {"name": ["Shop", "Shop 2"]}, {"is_active": [True, False]}]
    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_entry::text FROM audit_entry")
        assert key.public_key not in str(cursor.fetchall())


def test_a_key_that_is_deleted_on_its_own_page_is_recorded(admin_client):
    key = factories.IngestKeyFactory(label="jobs")
    admin_client.post(reverse("admin:monitors_ingestkey_delete", args=[key.pk]), {"post": "yes"})
    other = factories.IngestKeyFactory(label="others")
    run(admin_client, "delete_selected", other)
    assert [entry[:3] for entry in recorded()] == [
        ("deleted", "ingest key", str(key)),
        ("deleted", "ingest key", str(other)),
    ]


def test_accounts_and_groups_are_recorded_and_no_password_is_in_an_entry(admin_client):
    passwords = {"usable_password": "true", "password1": "correct horse", "password2": "correct horse"}
    assert admin_client.post(reverse("admin:auth_user_add"), {"username": "anna", **passwords}).status_code == 302
    anna = User.objects.get(username="anna")
    group = Group.objects.create(name="operators")
    save(admin_client, anna, is_superuser="on", groups=[str(group.pk)])
    new = {"password1": "battery staple", "password2": "battery staple", "set-password": "Set"}
    address = reverse("admin:auth_user_password_change", args=[anna.pk])
    assert admin_client.post(address, new | {"usable_password": "true"}).status_code == 302
    run(admin_client, "delete_selected", group)
    assert recorded() == [
        ("created", "user", "anna", {"username": [None, "anna"]}),
        ("changed", "user", "anna", {"is_superuser": [False, True], "groups": [[], ["operators"]]}),
        ("changed", "user", "anna", {"password": "changed"}),
        ("deleted", "group", "operators", {}),
    ]
    anna.refresh_from_db()
    assert anna.check_password("battery staple")


def test_a_change_that_is_refused_leaves_no_entry(admin_client, monitor):
    held = form_of(admin_client.get(url_of(monitor)).text, "monitor_form") | {"crontab": ["not a crontab"]}
    assert admin_client.post(url_of(monitor), held).status_code == 200
    assert recorded() == []


class TestTheAuditLog:
    """Its pages in the admin."""

    LOG = list_of(AuditEntry)

    def found(self, client, **query):
        return list(client.get(self.LOG, query).context["cl"].result_list)

    def test_the_newest_entry_comes_first_with_its_person_and_its_object(self, staff_client):
        older, newer = (factories.AuditEntryFactory(object_name=name) for name in ("backup", "report"))
        assert self.found(staff_client) == [newer, older]
        text = staff_client.get(self.LOG).text
        assert "anna" in text
        assert "checkin margin" in text

    def test_entries_are_found_by_object_person_and_action(self, staff_client):
        wanted = factories.AuditEntryFactory(object_name="report", actor_name="ben", action="muted")
        factories.AuditEntryFactory()
        for words in ("repo", "ben", "muted"):
            assert self.found(staff_client, q=words) == [wanted]

    def test_entries_are_filtered_by_project_kind_object_and_source(self, staff_client):
        project = factories.ProjectFactory()
        wanted = factories.AuditEntryFactory(project_id=project.pk, kind="issue", object_id=12, source="api")
        factories.AuditEntryFactory(project_id=project.pk + 1)
        for query in (
            {"project": project.pk},
            {"kind": "issue"},
            {"kind": "issue", "object_id": 12},
            {"source__exact": "api"},
        ):
            assert self.found(staff_client, **query) == [wanted], query
        assert self.found(staff_client, object_id=13) == []

    def test_the_page_of_an_entry_shows_values_before_and_after_and_links_to_the_object(self, staff_client, monitor):
        entry = factories.AuditEntryFactory(object_id=monitor.pk, project_id=monitor.project_id)
        text = staff_client.get(url_of(entry)).text
        assert url_of(monitor) in text
        assert str(monitor.project) in text
        for words in ("Before", "After", "checkin margin"):
            assert words in text

    def test_an_entry_stays_readable_when_project_and_object_are_gone(self, staff_client):
        entry = factories.AuditEntryFactory(project_id=4711, object_id=4711)
        for url in (url_of(entry), self.LOG):
            assert "4711 (deleted)" in staff_client.get(url).text

    def test_values_are_escaped(self, staff_client):
        script = "<script>alert(1)</script>"
        entry = factories.AuditEntryFactory(object_name=script, actor_name=script, changes={script: [script, [script]]})
        for url in (url_of(entry), self.LOG):
            assert script not in staff_client.get(url).text

    def test_nobody_may_look_without_the_permission(self, operator_client):
        assert operator_client.get(self.LOG).status_code == 403

    def test_nobody_edits_or_deletes_entries(self, admin_client):
        entry = factories.AuditEntryFactory()
        assert admin_client.post(url_of(entry), {"actor_name": "somebody else"}).status_code == 403
        delete = reverse("admin:audit_auditentry_delete", args=[entry.pk])
        assert admin_client.post(delete, {"post": "yes"}).status_code == 403

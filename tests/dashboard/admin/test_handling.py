"""People acknowledge, comment and assign on the pages of incidents and issues, and see what has happened."""

import pytest

from audit.entries import Actor, Source
from audit.models import AuditEntry
from incidents.handling import acknowledge
from incidents.notifications.addressing import address
from incidents.notifications.routes import load_routing
from tests.factories import (
    NOW,
    ChannelFactory,
    CommentFactory,
    IncidentFactory,
    MembershipFactory,
    MessageFactory,
    NotificationFactory,
    ProjectFactory,
    RouteFactory,
)

pytestmark = pytest.mark.django_db
INCIDENTS, ISSUES, ROUTES = "/admin/incidents/incident/", "/admin/incidents/issue/", "/admin/incidents/route/"


def do(client, row, what, **sent):
    return client.post(f"/admin/incidents/{row._meta.model_name}/{row.pk}/handle/", {"do": what, **sent}, follow=True)


def test_the_button_on_an_incident_acknowledges_it(admin_client):
    incident = IncidentFactory()
    assert "acknowledge_form" in admin_client.get(f"{INCIDENTS}{incident.pk}/change/").content.decode()
    page = do(admin_client, incident, "acknowledge").content.decode()
    incident.refresh_from_db()
    assert incident.acknowledged_by == "admin"
    assert "acknowledge_form" not in page
    assert "withdraw_form" in page
    do(admin_client, incident, "withdraw")
    incident.refresh_from_db()
    assert incident.acknowledged_by == ""


def test_selected_incidents_are_acknowledged_as_far_as_they_are_open(admin_client):
    open_one, over = IncidentFactory(), IncidentFactory(resolved=True)
    sent = {"action": "acknowledge", "_selected_action": [open_one.pk, over.pk]}
    page = admin_client.post(INCIDENTS, sent, follow=True).content.decode()
    assert "Acknowledged 1 incident." in page
    open_one.refresh_from_db()
    assert open_one.acknowledged_via == "the admin"


def test_who_may_only_look_sees_no_forms_and_changes_nothing(staff_client):
    incident = IncidentFactory()
    assert "handle/" not in staff_client.get(f"{INCIDENTS}{incident.pk}/change/").content.decode()
    assert do(staff_client, incident, "acknowledge").status_code == 403
    incident.refresh_from_db()
    assert incident.acknowledged_at is None


def test_opening_the_address_of_the_forms_changes_nothing(admin_client):
    incident = IncidentFactory()
    assert admin_client.get(f"{INCIDENTS}{incident.pk}/handle/?do=acknowledge").status_code == 405


def test_a_comment_is_on_the_pages_of_the_incident_and_of_the_issue(admin_client):
    incident = IncidentFactory()
    do(admin_client, incident, "comment", text="The <disk> is full.")
    for path in (f"{INCIDENTS}{incident.pk}/change/", f"{ISSUES}{incident.issue_id}/change/"):
        assert "The &lt;disk&gt; is full." in admin_client.get(path).content.decode()


def test_a_comment_that_is_refused_says_why(admin_client):
    assert "1 to 4,000 characters" in do(admin_client, IncidentFactory().issue, "comment", text=" ").content.decode()


def test_an_issue_is_assigned_on_its_page(admin_client):
    issue = IncidentFactory().issue
    member = MembershipFactory(project=issue.project, user__username="bert")
    assert "Assigned to" in do(admin_client, issue, "assign", member=member.pk).content.decode()
    issue.refresh_from_db()
    assert issue.assignee == member
    stranger = MembershipFactory()
    assert "a member of its project" in do(admin_client, issue, "assign", member=stranger.pk).content.decode()


def test_what_is_not_known_is_refused(admin_client):
    assert "cannot be done here" in do(admin_client, IncidentFactory().issue, "acknowledge").content.decode()


def test_the_timeline_shows_who_was_told_only_to_people_who_may_view_messages(admin_client, operator_client):
    incident = NotificationFactory().incident
    address(["night@example.com"], now=NOW)
    CommentFactory(issue=incident.issue)
    assert "night@example.com" in admin_client.get(f"{ISSUES}{incident.issue_id}/change/").content.decode()
    page = operator_client.get(f"{ISSUES}{incident.issue_id}/change/").content.decode()
    assert "night@example.com" not in page


def test_the_link_in_an_alert_is_not_shown_to_people_who_read_messages(staff_client):
    message = MessageFactory(body="Acknowledge: https://watch.example.com/a/abc-1-2:sig", subject="old")
    page = staff_client.get(f"/admin/incidents/message/{message.pk}/change/").content.decode()
    assert "https://watch.example.com/a/…" in page
    assert "abc-1-2" not in page


# --- what a route says about the time until somebody acknowledges


def sent(project, **columns):
    return {"project": project.pk, "name": "night", "position": 1, "is_enabled": "on", "conditions": ""} | columns


def test_a_route_has_reminders_and_steps(admin_client):
    project = ProjectFactory()
    pager = ChannelFactory(project=project, name="pager")
    form = sent(project, reminder_hours=2, escalation="30 minutes: pager", loops=1)
    assert admin_client.post(f"{ROUTES}add/", form).status_code == 302
    [rules] = load_routing({project.id}, []).routes[project.id]
    assert (rules.reminder_hours, rules.loops) == (2, 1)
    assert [(step.minutes, step.channels) for step in rules.steps] == [(30, (pager.id,))]
    page = admin_client.get(f"{ROUTES}{rules.id}/change/").content.decode()
    assert "30 minutes: pager" in page


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("escalation", "30 minutes: nobody", "no channel &#x27;nobody&#x27;"),
        ("escalation", "soon: pager", "must be: 30 minutes"),
        ("loops", "6", "less than or equal to 5"),
        ("reminder_hours", "169", "less than or equal to 168"),
    ],
)
def test_what_cannot_be_is_refused_at_its_field(admin_client, field, value, problem):
    project = ProjectFactory()
    ChannelFactory(project=project, name="pager")
    response = admin_client.post(f"{ROUTES}add/", sent(project, **{field: value}))
    assert problem in str(response.context["adminform"].form.errors[field])


def test_a_channel_of_another_project_is_no_step(admin_client):
    ChannelFactory(name="pager")
    response = admin_client.post(f"{ROUTES}add/", sent(ProjectFactory(), escalation="30 minutes: pager"))
    assert "It has: none yet." in str(response.context["adminform"].form.errors["escalation"])


def test_an_edit_of_steps_and_conditions_is_recorded_in_words(admin_client):
    route = RouteFactory(name="night")
    ChannelFactory(project=route.project, name="pager")
    form = sent(route.project, position=route.position, escalation="5 minutes: pager", conditions="tag is db")
    admin_client.post(f"{ROUTES}{route.pk}/change/", form)
    changes = AuditEntry.objects.get().changes
    assert changes["escalation"] == ["", "5 minutes: pager"]
    assert changes["conditions"] == ["", "tag is db"]


def test_an_acknowledged_incident_says_so_in_the_list(admin_client):
    incident = IncidentFactory()
    acknowledge(incident.guid, by=Actor("anna", Source.LINK, NOW), via="a link", now=NOW)
    assert "acknowledged" in admin_client.get(INCIDENTS).content.decode()

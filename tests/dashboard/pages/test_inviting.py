"""Inviting people to a project: a mail with a link that works once, and joins with an account or a new one."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client

from accounts import invitations
from accounts.models import Invitation, Membership
from accounts.roles import Role
from audit.models import AuditEntry
from dashboard.pages.project import inviting
from incidents.notifications.mail_settings import CONSOLE
from tests.dashboard.conftest import client_of
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db
ADDRESS = "ann@example.com"
PASSWORD = "long enough for a test"


@pytest.fixture(autouse=True)
def mails(monkeypatch):
    sent: list[tuple[str, str, str]] = []
    monkeypatch.setattr("accounts.tasks.send_letter.delay", lambda *letter: sent.append(letter))
    return sent


@pytest.fixture
def invite(as_role, monitor, mails):
    """Invite as an owner; returns the answer and the path of the link, if a mail was sent."""
    owner = as_role(Role.OWNER)

    def post(address=ADDRESS, role="editor", **more):
        known = len(mails)
        values = {"do": "invite", "address": address, "role": role} | more
        answer = owner.post(f"/projects/{monitor.project.slug}/act", values, follow=True)
        paths = re.findall(r"/join/\S+", mails[-1][1]) if len(mails) > known else [""]
        return answer, paths[0]

    return post


def recorded():
    entries = AuditEntry.objects.filter(kind__in=("invitation", "member", "user")).order_by("id")
    return [(entry.kind, entry.object_name, entry.action, entry.source) for entry in entries]


def role_of(name):
    return Membership.objects.get(user__username=name).role


def test_without_a_mail_server_the_page_says_that_nobody_gets_the_mail(invite, settings):
    assert "Nobody gets this mail" not in words(invite()[0])
    Invitation.objects.all().delete()
    settings.EMAIL_BACKEND = CONSOLE
    assert "Nobody gets this mail: EMAIL_URL names no mail server" in words(invite()[0])


def test_somebody_new_creates_an_account_and_is_a_member(invite, mails, monitor):
    answer, link = invite("Ann@Example.com")
    assert "ann@example.com editor" in words(answer)
    [(subject, _, to)] = mails
    assert (monitor.project.name in subject, to) == (True, ADDRESS)

    browser = Client()
    assert f"You are invited to the project {monitor.project.name}, as editor" in words(browser.get(link))
    assert "too short" in words(browser.post(link, {"name": "ann", "password": "x"}))
    assert browser.post(link, {"name": "ann", "password": PASSWORD})["Location"] == "/login/"
    assert role_of("ann") == "editor"
    assert User.objects.get(username="ann").email == ADDRESS
    assert recorded() == [
        ("invitation", ADDRESS, "created", "page"),
        ("user", "ann", "created", "link"),
        ("member", "ann", "added", "link"),
        ("invitation", ADDRESS, "accepted", "link"),
    ]
    again = browser.get(link)
    assert (again.status_code, "It was used or withdrawn already" in words(again)) == (404, True)


def test_an_account_with_the_address_logs_in_and_joins_with_a_button(invite):
    user = User.objects.create_user("ann", ADDRESS, PASSWORD)
    _, link = invite()
    stranger = Client()
    assert "Log in to join" in words(stranger.get(link))
    stranger.post(link, {"name": "eve", "password": PASSWORD})
    assert not User.objects.filter(username="eve").exists()

    client = client_of(user)
    assert "Join as ann" in words(client.get(link))
    assert not Membership.objects.filter(user=user).exists()
    assert client.post(link)["Location"] == "/projects/"
    assert role_of("ann") == "editor"
    assert client.get(link).status_code == 404


def test_a_new_account_takes_nobodys_name_or_address(invite):
    User.objects.create_user("bob", "bob@example.com", PASSWORD)
    _, link = invite()
    for name in ("Bob", "bob@example.com"):
        assert "already" in words(Client().post(link, {"name": name, "password": PASSWORD}))
    assert User.objects.filter(email=ADDRESS).count() == 0


def test_of_two_people_who_choose_a_name_at_one_instant_the_second_chooses_another(invite, monkeypatch):
    User.objects.create_user("bob", "bob@example.com", PASSWORD)
    _, link = invite()
    monkeypatch.setattr(inviting.JoinForm, "clean_name", lambda form: form.cleaned_data["name"])  # It was free then.
    answer = Client().post(link, {"name": "bob", "password": PASSWORD})
    assert (answer.status_code, "An account has the name bob already." in words(answer)) == (422, True)
    assert not Membership.objects.filter(user__username="bob").exists()


def test_a_link_is_void_after_its_time_when_withdrawn_or_when_altered(invite):
    _, link = invite()
    assert Client().get(f"{link[:-3]}x/").status_code == 404
    row = Invitation.objects.get()
    assert invitations.find_invitation(link.split("/")[2], now=row.expires_at) is None
    assert invitations.find_invitation(link.split("/")[2], now=row.expires_at - timedelta(seconds=1)) == row
    invite(do="withdraw", invitation=row.pk)
    assert Client().get(link).status_code == 404
    assert recorded()[-1] == ("invitation", ADDRESS, "withdrawn", "page")


def test_an_invitation_that_cannot_be_says_why_next_to_the_address(invite, monkeypatch, monitor):
    assert "Enter a valid email address" in words(invite("nobody")[0])
    invite()
    assert "ann@example.com is invited already" in words(invite("ANN@example.com")[0])
    monkeypatch.setattr(invitations, "OPEN_MAX", 1)
    assert "1 invitations are open, which is the most" in words(invite("bob@example.com")[0])
    Invitation.objects.update(expires_at=Invitation.objects.get().expires_at - timedelta(days=8))
    assert invite("bob@example.com")[1]

    member = User.objects.create_user("cid", "cid@example.com")
    Membership.objects.create(
        project=monitor.project, user=member, role="viewer", added_at=Invitation.objects.get().expires_at
    )
    assert "is a member of this project already" in words(invite("cid@example.com")[0])


@pytest.mark.parametrize("what", ["invite", "withdraw"])
def test_only_owners_invite(as_role, monitor, what):
    address = f"/projects/{monitor.project.slug}/act"
    assert as_role(Role.EDITOR).post(address, {"do": what, "address": ADDRESS}).status_code == 403

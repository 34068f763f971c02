"""Owners make and revoke addresses that open without an account."""

import pytest
from django.test import Client
from django.urls import reverse

from audit.models import AuditEntry
from dashboard.models import ShareLink
from dashboard.shared import links
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(monitor):
    return reverse("share-links", args=[monitor.project.slug])


@pytest.fixture
def owner(as_role):
    return as_role("owner")


def test_a_status_page_gets_an_address_that_nobody_guesses_and_opens_without_an_account(owner, address, monitor):
    page = owner.post(address, {"kind": "status", "title": "Jobs of the shop"}, follow=True)
    link = ShareLink.objects.get()
    assert len(link.address) == 32
    assert f"/s/{link.address}/" in words(page)
    assert "Jobs of the shop" in words(Client().get(f"/s/{link.address}/"))
    entry = AuditEntry.objects.get(kind="share link")
    assert (entry.action, entry.source, entry.project_id) == ("shared", "page", monitor.project_id)
    assert link.address not in str(entry.changes)


def test_a_revoked_address_is_gone_and_the_log_says_who_revoked_it(owner, address, monitor):
    link = factories.ShareLinkFactory(project=monitor.project)
    page = owner.post(address, {"do": "revoke", "link": link.pk}, follow=True)
    assert "is revoked" in words(page)
    assert Client().get(f"/s/{link.address}/").status_code == 404
    assert AuditEntry.objects.get(kind="share link").action == "revoked"


def test_a_link_of_another_project_is_not_revoked(owner, address):
    other = factories.ShareLinkFactory()
    page = owner.post(address, {"do": "revoke", "link": other.pk}, follow=True)
    assert "There is no such address any more." in words(page)
    assert ShareLink.objects.filter(pk=other.pk).exists()


def test_a_badge_comes_with_its_lines_for_a_readme(owner, address, monitor):
    owner.post(address, {"kind": "badge", "title": "a [job]", "monitor": monitor.slug})
    link = ShareLink.objects.get()
    assert (link.monitor, link.tags) == (monitor, [])
    assert f"![a job](http://testserver/b/{link.address}.svg)" in words(owner.get(address))


@pytest.mark.parametrize(
    ("typed", "field"),
    [
        ({"title": ""}, "title"),
        ({"kind": "poster"}, "kind"),
        ({"kind": "badge", "address": "the-shop"}, "address"),
        ({"address": "The Shop"}, "address"),
        ({"address": "a--b"}, "address"),
        ({"address": "taken"}, "address"),
        ({"monitor": "nothing"}, "monitor"),
        ({"tags": "x" * 51}, "tags"),
        ({"tags": ",".join(map(str, range(21)))}, "tags"),
        ({"environment": "nowhere"}, "environment"),
    ],
)
def test_what_is_wrong_stands_beside_its_field(owner, address, typed, field):
    factories.ShareLinkFactory(is_public=True, address="taken")
    page = owner.post(address, {"kind": "status", "title": "Jobs", "monitor": "", **typed})
    assert page.status_code == 422
    assert list(page.context["form"].errors) == [field]
    assert ShareLink.objects.count() == 1


def test_a_monitor_and_tags_do_not_go_together(owner, address, monitor):
    page = owner.post(address, {"kind": "badge", "title": "x", "monitor": monitor.slug, "tags": "db"})
    assert "Choose a monitor or tags, not both." in words(page)


def test_a_project_has_a_bounded_number_of_links(owner, address, monitor, monkeypatch):
    monkeypatch.setattr(links, "LINKS_MAX", 1)
    factories.ShareLinkFactory(project=monitor.project)
    page = owner.post(address, {"kind": "tv", "title": "Office"})
    assert "no more are allowed" in words(page)


def test_a_page_without_links_says_what_they_are_for(owner, address):
    assert "There is none yet." in words(owner.get(address))

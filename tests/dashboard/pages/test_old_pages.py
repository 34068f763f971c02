"""What a person gets who sends the form of a page that is too old."""

import pytest
from django.test import Client

from tests import factories
from tests.dashboard.pages.conftest import words


@pytest.mark.django_db
def test_a_form_from_before_another_login_is_refused_with_what_to_do():
    client = Client(enforce_csrf_checks=True)
    client.force_login(factories.UserFactory())
    response = client.post("/wall/act", {"do": "mute"})
    assert response.status_code == 403
    assert "That page was too old" in words(response)
    assert "go back, reload the page, and try again" in words(response)

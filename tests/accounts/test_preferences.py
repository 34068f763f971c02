"""What people prefer, and by which names monitors call them."""

import pytest

from accounts.preferences import address_of, owner_texts, preferences_of
from tests import factories

pytestmark = pytest.mark.django_db


def test_the_address_is_the_one_that_a_person_prefers_or_else_that_of_the_account():
    user = factories.UserFactory(username="Ann", email="ann@work.example")
    assert address_of(user) == "ann@work.example"
    assert preferences_of(user).timezone == ""
    factories.PreferencesFactory(user=user, email="ann@home.example")
    user.refresh_from_db()
    assert address_of(user) == "ann@home.example"


def test_monitors_call_a_person_by_name_or_by_either_address_in_any_case():
    user = factories.UserFactory(username="Ann", email="ann@work.example")
    factories.PreferencesFactory(user=user, email="Ann@home.example")
    assert owner_texts(user) == {"user:ann", "user:ann@work.example", "user:ann@home.example"}
    assert owner_texts(factories.UserFactory(username="bob")) == {"user:bob"}

"""A notification that is held is addressed when its time has come."""

from datetime import timedelta

import pytest

from incidents.models import Message
from incidents.notifications.addressing import address
from tests.factories import NOW, NotificationFactory

pytestmark = pytest.mark.django_db


def test_a_held_notification_is_addressed_at_the_end_of_the_hold() -> None:
    NotificationFactory(held_until=NOW + timedelta(minutes=5), held_by="a test")

    address(["ops@example.com"], now=NOW + timedelta(minutes=4))
    assert not Message.objects.exists()

    address(["ops@example.com"], now=NOW + timedelta(minutes=5))
    assert Message.objects.get().recipient == "ops@example.com"

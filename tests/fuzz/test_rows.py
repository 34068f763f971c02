"""Whatever stands in the row of one monitor, its neighbour is judged, and both can be shown (D37)."""

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from hypothesis import given

from tests.clocktasks.kinds.test_set_aside import Place
from tests.fuzz.strategies import spoilt_columns
from tests.fuzz.test_requests import SHARES, look_for, undone

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("share", SHARES)
def test_d37_a_row_that_cannot_be_read_stops_no_tick_and_no_page(share):
    client = Client()
    client.force_login(User.objects.create_superuser("looker"))

    @given(spoilt_columns)
    def prove(columns: dict[str, str]) -> None:
        with undone():
            place = Place(**columns)
            place.clock("11:30")
            assert place.says(place.innocent) == ["11:00 missed"]
            for address in (
                reverse("admin:monitors_monitor_change", args=[place.broken.pk]),
                reverse("monitor", args=[place.broken.project.slug, place.broken.slug]),
                reverse("wall"),
            ):
                assert client.get(address).status_code == 200, address

    look_for(int(20 * share), prove)

"""D32: a monitor's page says which rules of before an edit are still to judge a slot, and until when."""

import html
import re
from datetime import timedelta

import pytest
from django.urls import reverse

from checkins.editing import update_monitor
from tests.factories import NOW, MonitorEnvironmentFactory

pytestmark = pytest.mark.django_db


def lines(client, monitor):
    page = client.get(reverse("admin:monitors_monitor_change", args=[monitor.pk])).text
    found = re.findall(r'<p data-role="older-rules">(.*?)</p>', page, flags=re.DOTALL)
    return [" ".join(html.unescape(re.sub(r"<[^>]*>", "", line)).split()) for line in found]


def test_d32_the_page_shows_which_older_rules_still_wait_and_until_when(admin_client):
    row = MonitorEnvironmentFactory(monitor__crontab="*/5 * * * *", monitor__checkin_margin=20)
    assert lines(admin_client, row.monitor) == []

    update_monitor(row.monitor_id, {"crontab": "0 0 * * *", "checkin_margin": 1}, now=NOW + timedelta(minutes=7))

    [line] = lines(admin_client, row.monitor)
    assert "Slots before" in line
    assert "Every 5 minutes" in line
    assert "margin 20 minutes" in line
    assert "10:07" in line
    assert "10:27" in line

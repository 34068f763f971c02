"""Fields that the audit log names are in the reader's language."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import translation

from accounts.roles import Role
from checkins.maintenance import _shown
from dashboard.channel_form import PREFIX, ChannelForm
from dashboard.monitor_form import MonitorForm
from dashboard.pages.auditlog.fields import LABELS, label_of, value_text
from dashboard.route_form import RouteForm
from dashboard.vocabulary import WORDS
from incidents.models import Unsubscription
from incidents.notifications import configuring
from monitors.models import MaintenanceWindow
from monitors.schedule import IntervalUnit, ScheduleType
from monitors.state import MonitorStatus, Severity
from tests import factories
from tests.dashboard.pages.conftest import as_role as as_role
from tests.dashboard.pages.conftest import environment as environment
from tests.dashboard.pages.conftest import incident as incident
from tests.dashboard.pages.conftest import monitor as monitor
from tests.dashboard.pages.conftest import words

ROOT = Path(__file__).resolve().parents[3]
OF_NO_PROJECT = {"factor", "password"}
"""Fields of accounts: their entries stand only in the admin, which is in English."""
SAME = {"name", "status", "text"}
"""Labels that are the same in German, letter by letter."""


def written_out() -> Iterator[str]:
    """Yield the fields that the code writes out where it makes an entry, or keeps its changes."""
    for room in ("accounts", "checkins", "dashboard", "incidents", "monitors"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                    found = node.args if name.lower().endswith("entry") else []
                elif isinstance(node, ast.Assign):
                    found = [node.value] if getattr(node.targets[0], "id", "") == "changes" else []
                else:
                    continue
                for value in found:
                    if isinstance(value, ast.Dict):
                        yield from (str(key.value) for key in value.keys if isinstance(key, ast.Constant))


def of_forms() -> set[str]:
    """Return the fields that forms and rows record."""
    settings = [field for kind in configuring.KINDS for field in configuring.fields_of(kind)]
    return {
        *MonitorForm.Meta.fields,
        *ChannelForm.Meta.fields,
        *RouteForm.Meta.fields,
        *RouteForm.in_words,
        *_shown(MaintenanceWindow()),
        *Unsubscription.Topic.labels,
        *(f"{PREFIX}{field.name}" if field.is_secret else field.name for field in settings),
    }


def test_every_field_that_is_recorded_has_a_label():
    found = set(written_out())
    assert {"is_muted", "depends_on", "role", "via"} <= found
    assert (found | of_forms()) - OF_NO_PROJECT - LABELS.keys() == set()


@pytest.mark.parametrize("name", LABELS)
def test_a_label_is_in_german_and_in_english_the_name_of_the_field(name):
    assert label_of(name) == name.replace("_", " ")
    with translation.override("de"):
        assert name in SAME or label_of(name) != name.replace("_", " ")


def test_a_field_that_is_not_known_is_named_as_it_is():
    with translation.override("de"):
        assert label_of("phase_of_moon") == "phase of moon"


def test_a_value_is_translated_if_it_is_a_word_of_watchclock():
    with translation.override("de"):
        assert value_text("status", "disabled") == "abgeschaltet"
        assert value_text("interval_unit", "hour") == "Stunde"
        assert value_text("is_muted", True) == "ja"
        assert value_text("name", "disabled") == "disabled", "somebody has named it so"


@pytest.mark.parametrize(
    "choices", [MonitorStatus, ScheduleType, IntervalUnit, Severity, Role], ids=lambda choices: choices.__name__
)
def test_every_value_of_a_field_of_words_is_a_word(choices):
    assert {one.value for one in choices} - WORDS - {"pending_deletion"} == set(), "what is being deleted is in no log"


@pytest.mark.django_db
def test_the_page_of_the_audit_log_names_fields_in_german(as_role, monitor):
    factories.AuditEntryFactory(
        project_id=monitor.project_id, object_name=monitor.slug, changes={"checkin_margin": [1, 5], "is_muted": [0, 1]}
    )
    client = as_role("viewer")
    client.cookies["watchclock_language"] = "de"
    page = words(client.get(f"/projects/{monitor.project.slug}/audit/"))
    assert "Spielraum 1 → 5" in page
    assert "stumm 0 → 1" in page

import re

import pytest
from django.apps import apps
from django.db.models import Model

from tests.docs.pages import DOCS, code, section, tables, text

PAGE = DOCS / "reference" / "data-model.md"
MODELS = [
    model
    for app in ("audit", "monitors", "accounts", "checkins", "incidents", "clocktasks", "dashboard")
    for model in apps.get_app_config(app).get_models()
]


def documented_names(model: type[Model]) -> set[str]:
    rows = [row for table in tables(section(PAGE, f"### `{model._meta.db_table}`")) for row in table]
    columns = {field.name for field in model._meta.fields}
    return {code(row[0]) for row in rows} - columns


def test_every_table_is_documented_and_no_other():
    documented = set(re.findall(r"^### `(\w+)`$", text(PAGE), re.MULTILINE))

    assert documented == {model._meta.db_table for model in MODELS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.db_table)
def test_every_named_constraint_and_index_is_documented_and_no_other(model):
    named = {item.name for item in (*model._meta.constraints, *model._meta.indexes)}

    assert documented_names(model) == named


def test_the_columns_of_the_hot_row_are_documented():
    (table, *_) = tables(section(PAGE, "### `monitors_monitorenvironment`"))
    documented = {name for row in table for name in re.findall(r"`(\w+)`", row[0])}
    model = apps.get_model("monitors", "MonitorEnvironment")

    assert documented == {field.name for field in model._meta.fields} - {"id", "monitor", "environment", "created_at"}


@pytest.mark.parametrize("page", [DOCS / "explanation" / "architecture.md"], ids=["architecture"])
def test_constraints_that_promises_lean_on_exist(page):
    promises = section(page, "## What must always hold")
    named = {item.name for model in MODELS for item in (*model._meta.constraints, *model._meta.indexes)}
    mentioned = {
        word
        for word in re.findall(r"`([a-z]+(?:_[a-z]+)+)`", promises)
        if word.startswith(("incident_", "issue_", "notification_", "checkin_", "shard_", "applied_", "monenv_"))
    }

    assert mentioned
    assert mentioned <= named

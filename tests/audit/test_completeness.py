"""What people change is recorded: every page passes who it is to the services that record."""

import ast

from project.local.children import BASE_DIR
from tests.structure import sources

EDGES = ("dashboard",)
SERVICES = ("accounts", "monitors", "incidents", "checkins")


def trees(*apps):
    for app in apps:
        for path in sources(app):
            yield path.relative_to(BASE_DIR), ast.parse(path.read_text())


def recording_services():
    """The names of the functions that take an actor as `by`."""
    return {
        node.name
        for _, tree in trees(*SERVICES)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and any(argument.arg == "by" for argument in node.args.kwonlyargs)
    }


def test_there_are_services_that_record():
    assert {"update_monitor", "set_monitors_muted", "archive_issues", "add_member"} <= recording_services()


def test_every_page_tells_services_who_changes_something():
    services, found = recording_services(), []
    for path, tree in trees(*EDGES):
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in services and "by" not in {word.arg for word in node.keywords}:
                found.append(f"{path}:{node.lineno} {name}")
    assert found == []

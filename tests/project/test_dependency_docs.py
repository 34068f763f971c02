import json
import re
import tomllib

from project.local.children import BASE_DIR

REASONS = (BASE_DIR / "docs" / "explanation" / "dependencies.md").read_text()
CLIENTS = BASE_DIR / "tests" / "clients"
TWO_COLUMNS = re.compile(r"^\| ([a-z@][^|]*) \| [^|]+ \|$", re.MULTILINE)


def without_extras(requirement: str) -> str:
    return re.split(r"[^\w.@/-]", requirement.strip())[0]


def test_every_dependency_says_why_it_is_there():
    declared = tomllib.loads((BASE_DIR / "pyproject.toml").read_text())
    clients = tomllib.loads((CLIENTS / "python" / "pyproject.toml").read_text())
    groups = [
        declared["project"]["dependencies"],
        *declared["dependency-groups"].values(),
        clients["project"]["dependencies"],
        json.loads((CLIENTS / "node" / "package.json").read_text())["dependencies"],
    ]
    explained = re.sub(r"\[[^]]*\]", "", ",".join(TWO_COLUMNS.findall(REASONS))).split(",")

    assert {without_extras(name) for group in groups for name in group} == {
        without_extras(name) for name in explained
    } - {"package"}

import re

from project.local.children import BASE_DIR
from tests.test_floors import FLOORS

REFERENCE = BASE_DIR / "docs" / "reference" / "settings.md"
SOURCES = [path for package in FLOORS for path in (BASE_DIR / package).rglob("*.py")]
READ = re.compile(r'(?:environment\.\w+|os\.environ\.get|os\.getenv|_?env(?:\.\w+)?)\(\s*"([A-Z][A-Z_]+)"')


def variables_read() -> set[str]:
    return {name for path in SOURCES for name in READ.findall(path.read_text())} - {"DJANGO_SETTINGS_MODULE"}


def variables_documented() -> set[str]:
    return set(re.findall(r"^\| `([A-Z_]+)`", REFERENCE.read_text(), re.MULTILINE))


def test_the_search_finds_what_is_read():
    assert {"SECRET_KEY", "WATCHCLOCK_HOME", "WATCHCLOCK_PORT", "EMAIL_URL", "CLOCK_GRACE_SECONDS"} <= variables_read()


def test_every_variable_that_is_read_is_documented_and_no_other():
    assert variables_read() == variables_documented()

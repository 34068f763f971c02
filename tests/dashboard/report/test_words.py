"""A weekly report as people get it, reviewed: a change of its words is a change of its file.

`WRITE_SNAPSHOTS=1 make test ARGS=tests/dashboard/report/test_words.py` writes the file anew.
"""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from dashboard.report.facts import Broken, Listed, Noisy, Open, ReportFacts, Runs, Silent, Slow
from dashboard.report.words import write_report
from incidents.notifications.channels.mail_text import text

FOLDER = Path(__file__).parent / "snapshots"
MONDAY = datetime(2026, 11, 29, 23, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FACTS = ReportFacts(
    project="Operations",
    slug="ops",
    starts_at=MONDAY - 7 * DAY,
    ends_at=MONDAY,
    timezone="Europe/Berlin",
    runs=Runs(ok=3_402, error=4, missed=9, timeout=2, unknown=3),
    before=Runs(ok=3_410, missed=2),
    opened=6,
    open_now=(Open("nightly-backup (production)", MONDAY - 9 * HOUR),),
    open_now_count=1,
    noisiest=(Noisy("sync-orders (production)", 4, 11), Noisy("nightly-backup (production)", 1, 1)),
    slowest=(Slow("rebuild-search (production)", timedelta(minutes=94), timedelta(minutes=71)),),
    silent=(Silent("copy-archive (staging)", MONDAY - 30 * DAY),),
    silent_count=3,
    never=Listed(("rotate-logs",), 1_204),
    channels=(Broken("pager", 3, is_open=True), Broken("chat", 0, is_open=True)),
    url="https://w.example/monitors",
)


def said(**changes):
    return text(write_report(msgspec.structs.replace(FACTS, **changes)))


@pytest.mark.parametrize(("language", "name"), [("en", "weekly-report.txt"), ("de", "weekly-report-de.txt")])
def test_a_report_is_the_one_that_was_reviewed(language, name):
    report = text(write_report(FACTS, language=language, unsubscribe_url="https://w.example/u/x" * (language == "de")))
    if os.environ.get("WRITE_SNAPSHOTS"):
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / name).write_text(report)
    assert report == (FOLDER / name).read_text()


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        (Runs(ok=5), "5 of 5 runs were kept (100 %); 0 failed."),
        (Runs(missed=1), "0 of 1 runs were kept (0.0 %); 1 failed: 1 missed."),
        (Runs(ok=9_999, error=1), "9,999 of 10,000 runs were kept (99.9 %); 1 failed: 1 with an error."),
        (Runs(unknown=7), "No run was judged in these seven days."),
    ],
)
def test_runs_that_were_kept(runs, words):
    assert words in said(runs=runs)


def test_without_a_week_before_there_is_nothing_to_compare():
    assert "week before" not in said(before=Runs())


def test_names_are_plain_text():
    report = write_report(msgspec.structs.replace(FACTS, project="ops\r\nBcc: all@example.com"))
    assert len(report.headline.splitlines()) == 1

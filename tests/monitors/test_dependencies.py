"""What monitors depend on: no cycles, few, and recorded."""

import itertools
import threading

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from audit.entries import Actor, Source
from audit.models import AuditEntry
from monitors.dependencies import (
    UPSTREAMS_MAX,
    DependencyError,
    load_upstreams,
    path_between,
    set_upstreams,
    upstream_slugs,
)
from tests.factories import NOW, DependencyFactory, MonitorFactory, ProjectFactory


def named(*slugs):
    project = ProjectFactory()
    return [MonitorFactory(project=project, slug=slug) for slug in slugs]


def change(monitor, *slugs):
    set_upstreams(monitor.pk, slugs, now=NOW, by=Actor(name="anna", source=Source.ADMIN, at=NOW))


@pytest.mark.django_db
def test_they_are_replaced_as_a_whole_and_the_change_is_recorded():
    app, _, _ = named("app", "cache", "db")
    change(app, "db")
    change(app, "cache", "db", "cache")
    change(app, "db", "cache")
    change(app)
    assert upstream_slugs(app.pk) == []
    changes = [entry.changes["depends_on"] for entry in AuditEntry.objects.order_by("id")]
    assert changes == [[[], ["db"]], [["db"], ["cache", "db"]], [["cache", "db"], []]]


@pytest.mark.django_db
def test_a_cycle_is_refused_and_named():
    app, db, network = named("app", "db", "network")
    change(app, "db")
    change(db, "network")
    with pytest.raises(DependencyError, match="It would depend on itself: network → app → db → network"):
        change(network, "app")
    assert upstream_slugs(network.pk) == []


@pytest.mark.django_db
def test_a_monitor_does_not_depend_on_itself():
    (app,) = named("app")
    with pytest.raises(DependencyError, match="It would depend on itself: app → app"):
        change(app, "app")


@pytest.mark.django_db
def test_unknown_slugs_are_named_and_those_of_other_projects_are_unknown():
    (app,) = named("app")
    MonitorFactory(slug="elsewhere")
    with pytest.raises(DependencyError, match=r"The project has no monitor elsewhere, nothing\."):
        change(app, "nothing", "elsewhere")


@pytest.mark.django_db
@pytest.mark.parametrize(("count", "is_refused"), [(UPSTREAMS_MAX, False), (UPSTREAMS_MAX + 1, True)])
def test_their_number_is_bounded(count, is_refused):
    slugs = [f"job-{number}" for number in range(count)]
    app, *_ = named("app", *slugs)
    if is_refused:
        with pytest.raises(DependencyError, match="at most 10 others, these are 11"):
            change(app, *slugs)
    else:
        change(app, *slugs)
        assert len(upstream_slugs(app.pk)) == count


@pytest.mark.django_db
def test_all_that_is_above_is_loaded_once_by_one_statement(django_assert_num_queries):
    app, db, network = named("app", "db", "network")
    DependencyFactory(downstream=app, upstream=db)
    DependencyFactory(downstream=app, upstream=network)
    DependencyFactory(downstream=db, upstream=network)
    with django_assert_num_queries(1):
        assert load_upstreams([app.pk]) == {app.pk: [db.pk, network.pk], db.pk: [network.pk]}


@pytest.mark.django_db(transaction=True)
def test_two_people_do_not_close_a_cycle_together():
    first, second = named("first", "second")
    start = threading.Barrier(2)
    refused = []

    def edit(monitor, slug):
        start.wait()
        try:
            change(monitor, slug)
        except DependencyError as error:
            refused.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=edit, args=args) for args in ((first, "second"), (second, "first"))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1


ids = st.integers(0, 6)


@given(st.dictionaries(ids, st.lists(ids, max_size=3)), ids, ids)
def test_a_path_leads_over_dependencies_and_is_found_if_there_is_one(upstreams, start, end):
    way = path_between(upstreams, start, end)
    assert all(after in upstreams[before] for before, after in itertools.pairwise(way))
    assert (end in above(upstreams, start)) is bool(way)
    if way:
        assert (way[0], way[-1]) == (start, end)


def above(upstreams, start):
    found = {start}
    while more := {one for known in found for one in upstreams.get(known, ())} - found:
        found |= more
    return found

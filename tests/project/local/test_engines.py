import os
import stat

import psycopg
import pytest
import redis
from django.conf import settings
from django.db import connection

from project.local import engines
from project.local.home import end_leftovers


@pytest.mark.django_db
def test_the_tests_run_on_a_real_postgresql():
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        assert int(cursor.fetchone()[0]) >= 150000


@pytest.mark.usefixtures("engines")
def test_the_tests_run_on_a_real_valkey():
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        assert client.ping()


def run_engine(engine, directory, check):
    log = directory / "log"
    process = engine.start(log)
    try:
        engines.wait_until_ready(engine, process, log)
        check()
    finally:
        process.send_signal(engine.stop_signal)
        process.wait(10)


def test_a_database_is_closed_to_who_does_not_know_its_password(tmp_path):
    engine = engines.prepare_postgres(tmp_path / "pg", port=engines.free_port(), durable=False)
    password = (tmp_path / "pg" / "password").read_text()

    def check():
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(engine.url.replace(password, "guess"))

    run_engine(engine, tmp_path, check)


def test_a_broker_is_closed_to_who_does_not_know_its_password(tmp_path):
    engine = engines.prepare_valkey(tmp_path / "valkey", port=engines.free_port())
    password = (tmp_path / "valkey" / "password").read_text()

    def check():
        with (
            redis.Redis.from_url(engine.url.replace(password, "guess")) as stranger,
            pytest.raises(redis.AuthenticationError),
        ):
            stranger.ping()

    run_engine(engine, tmp_path, check)
    assert password not in " ".join(engine.argv)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives its engines to another user")
def test_roots_engines_work_in_a_directory_that_is_closed_to_others(tmp_path):
    closed = tmp_path / "closed to others"
    closed.mkdir(mode=0o700)
    engine = engines.prepare_postgres(closed / "pg", port=engines.free_port(), durable=False)

    def check():
        with psycopg.connect(engine.url) as database:
            assert database.execute("SELECT current_database()").fetchone() == ("watchclock",)

    run_engine(engine, closed, check)
    assert (closed / "pg").stat().st_uid != 0
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_first_start_that_was_cut_short_is_begun_again(tmp_path):
    (tmp_path / "pg" / "cluster").mkdir(parents=True)
    (tmp_path / "pg" / "cluster" / "half-made").touch()

    engine = engines.prepare_postgres(tmp_path / "pg", port=engines.free_port(), durable=False)

    run_engine(engine, tmp_path, lambda: None)


def test_a_stop_while_the_cluster_is_made_ends_that_and_leaves_nothing_of_it(tmp_path):
    class StopAskedError(Exception):
        pass

    def check_stop():
        raise StopAskedError

    with pytest.raises(StopAskedError):
        engines.prepare_postgres(tmp_path / "pg", port=engines.free_port(), durable=False, check_stop=check_stop)

    assert [path.name for path in (tmp_path / "pg").iterdir()] == ["password"]


def test_data_whose_password_is_gone_stay(tmp_path):
    version = tmp_path / "pg" / "cluster" / "PG_VERSION"
    version.parent.mkdir(parents=True)
    version.touch()

    with pytest.raises(engines.EngineError, match="password is missing"):
        engines.prepare_postgres(tmp_path / "pg", port=engines.free_port())

    assert version.exists()


def test_an_engine_that_cannot_start_shows_the_end_of_its_log(tmp_path):
    engine = engines.prepare_valkey(tmp_path / "valkey", port=1)
    with (tmp_path / "valkey" / "valkey.conf").open("a") as configuration:
        configuration.write("no-such-option yes\n")
    process = engine.start(tmp_path / "log")
    process.wait(10)

    with pytest.raises(engines.EngineError, match="no-such-option"):
        engines.wait_until_ready(engine, process, tmp_path / "log")


def test_private_files_replace_the_old_in_one_step(tmp_path):
    engines.write_private(tmp_path / "secret", "old")
    engines.write_private(tmp_path / "secret", "new")

    assert (tmp_path / "secret").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_postgresql_left_by_a_killed_supervisor_is_found_by_its_own_record_and_ended(tmp_path):
    engine = engines.prepare_postgres(tmp_path / "postgres", port=engines.free_port(), durable=False)
    process = engine.start(tmp_path / "log")
    engines.wait_until_ready(engine, process, tmp_path / "log")

    end_leftovers(tmp_path)

    assert process.wait(10) == 0

"""The ingest endpoints over HTTP: what a client gets back, and which rows it leaves behind."""

import base64
import gzip
import json
import uuid
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli  # type: ignore[import-untyped]
import pytest
import zstandard
from django.test import Client

from checkins.ingest.room import Place, Room
from checkins.models import CheckIn, CheckInLog, ProcessingError, WaitingCheckIn
from checkins.processing.limits import limits
from monitors.models import IngestKey, Monitor
from tests.checkins.ingest.web import Batcher, IngestClient, Submitted, run_edge, scope_of, send
from tests.factories import IngestKeyFactory, MonitorFactory

pytestmark = pytest.mark.django_db

ID_TEXT = "941723b3aef34230b0dda4e899818344"
EVENT_ID = "9bcf8290d35740b69389768966df76b6"
CRONTAB = {"schedule": {"type": "crontab", "value": "*/5 * * * *"}}


@pytest.fixture
def client() -> IngestClient:
    return IngestClient()


@pytest.fixture
def key() -> IngestKey:
    return IngestKeyFactory(public_key="0123456789abcdef0123456789abcdef")


@pytest.fixture
def monitor(key: IngestKey) -> Monitor:
    return MonitorFactory(project=key.project, slug="nightly")


def sentry_header(key: IngestKey) -> str:
    return f"Sentry sentry_key={key.public_key}, sentry_version=7, sentry_client=sentry.python/2.75.0"


def check_in(**fields: object) -> dict[str, object]:
    return {"check_in_id": ID_TEXT, "monitor_slug": "nightly", "status": "ok", **fields}


def envelope_of(*items: tuple[str, bytes] | dict[str, object], header: dict[str, object] | None = None) -> bytes:
    lines = [json.dumps(header or {}).encode()]
    for item in items:
        kind, payload = ("check_in", json.dumps(item).encode()) if isinstance(item, dict) else item
        lines += [json.dumps({"type": kind, "length": len(payload)}).encode(), payload]
    return b"\n".join(lines) + b"\n"


def post_envelope(client: Client, key: IngestKey, body: bytes, path: str = "envelope/", **headers: str) -> Any:
    return client.post(
        f"/api/{key.project_id}/{path}",
        body,
        content_type="application/x-sentry-envelope",
        headers={"x-sentry-auth": sentry_header(key), **headers},
    )


def stored_errors() -> list[tuple[str, str, str]]:
    return list(ProcessingError.objects.order_by("id").values_list("kind", "field", "slug"))


def assert_error(response: Any, status: int, *, says: str) -> None:
    assert response.status_code == status, response.content
    body = json.loads(response.content)
    assert set(body) == {"detail", "causes"}
    assert says in body["detail"]
    assert all(isinstance(cause, str) for cause in body["causes"])


# Envelopes


@pytest.mark.parametrize("path", ["envelope/", "envelope"])
def test_an_envelope_with_a_check_in_is_stored_and_answered_with_its_event_id(
    client: Client, key: IngestKey, monitor: Monitor, path: str
):
    response = post_envelope(client, key, envelope_of(check_in(), header={"event_id": EVENT_ID}), path)
    assert (response.status_code, json.loads(response.content)) == (200, {"id": EVENT_ID})
    assert response["Content-Type"] == "application/json"
    stored = CheckIn.objects.get()
    assert (stored.guid, stored.status, stored.monitor_environment.monitor_id) == (uuid.UUID(ID_TEXT), "ok", monitor.id)
    assert (stored.source, stored.project_id) == ("sentry_envelope", key.project_id)
    assert stored_errors() == []


def test_a_check_in_with_a_configuration_makes_its_monitor(client: Client, key: IngestKey):
    body = envelope_of(check_in(monitor_slug="Brand New", status="in_progress", monitor_config=CRONTAB))
    response = post_envelope(client, key, body)
    assert (response.status_code, json.loads(response.content)) == (200, {})
    assert Monitor.objects.get().slug == "brand-new"
    assert CheckIn.objects.get().status == "in_progress"


def test_a_check_in_without_length_and_last_line_feed_is_stored(client: Client, key: IngestKey, monitor: Monitor):
    body = b'{}\n{"type":"check_in"}\n' + json.dumps(check_in()).encode()
    assert post_envelope(client, key, body).status_code == 200
    assert CheckIn.objects.count() == 1


@pytest.mark.parametrize("content_type", ["", "application/json", "text/plain;charset=UTF-8", "multipart/form-data"])
def test_the_content_type_of_an_envelope_means_nothing(
    client: Client, key: IngestKey, monitor: Monitor, content_type: str
):
    response = client.generic(
        "POST",
        f"/api/{key.project_id}/envelope/",
        envelope_of(check_in()),
        content_type=content_type,
        headers={"x-sentry-auth": sentry_header(key)},
    )
    assert response.status_code == 200
    assert CheckIn.objects.count() == 1


def test_all_check_ins_of_an_envelope_are_taken_and_other_items_are_ignored(
    client: Client, key: IngestKey, monitor: Monitor
):
    other = MonitorFactory(project=key.project, slug="weekly")
    body = envelope_of(
        ("event", b'{"message": "not\nparsed'),
        check_in(),
        ("client_report", b'{"discarded_events":[]}'),
        ("attachment", bytes(300_000)),
        check_in(monitor_slug="weekly", check_in_id=EVENT_ID),
    )
    assert post_envelope(client, key, body).status_code == 200
    assert set(CheckIn.objects.values_list("monitor_environment__monitor_id", flat=True)) == {monitor.id, other.id}
    assert stored_errors() == []


@pytest.mark.parametrize("kind", ["event", "transaction", "session", "sessions", "log", "client_report", "made_up"])
def test_an_envelope_without_check_ins_is_accepted_and_leaves_nothing(client: Client, key: IngestKey, kind: str):
    assert post_envelope(client, key, envelope_of((kind, b"whatever"))).status_code == 200
    assert post_envelope(client, key, b"{}").status_code == 200
    assert stored_errors() == []


def zstd(plain: bytes) -> bytes:
    return zstandard.compress(plain)


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress), ("zstd", zstd), ("identity", bytes)],
)
def test_compressed_envelopes_are_read(
    client: Client, key: IngestKey, monitor: Monitor, encoding: str, encode: Callable[[bytes], bytes]
):
    response = post_envelope(client, key, encode(envelope_of(check_in())), **{"content-encoding": encoding})
    assert response.status_code == 200
    assert CheckIn.objects.count() == 1


def test_d18_a_bad_part_is_stored_as_an_error_beside_the_check_in(client: Client, key: IngestKey, monitor: Monitor):
    body = envelope_of(check_in(duration="inf", monitor_config={**CRONTAB, "max_runtime": "ten"}))
    assert post_envelope(client, key, body).status_code == 200
    assert CheckIn.objects.get().duration_ms is None
    assert sorted(stored_errors()) == [
        ("CHECKIN_VALIDATION_FAILED", "duration", "nightly"),
        ("MONITOR_INVALID_CONFIG", "monitor_config.max_runtime", "nightly"),
    ]


@pytest.mark.parametrize(
    ("fields", "kind", "field"),
    [
        ({"status": "success"}, "CHECKIN_VALIDATION_FAILED", "status"),
        ({"status": None}, "CHECKIN_VALIDATION_FAILED", "status"),
        ({"check_in_id": "job-17"}, "CHECKIN_INVALID_GUID", "check_in_id"),
        ({"environment": "a/b"}, "MONITOR_INVALID_ENVIRONMENT", "environment"),
        ({"environment": "\x00"}, "MONITOR_INVALID_ENVIRONMENT", "environment"),
        ({"monitor_slug": "???"}, "CHECKIN_VALIDATION_FAILED", "monitor_slug"),
    ],
)
def test_a_refused_check_in_is_stored_as_an_error_and_its_client_still_has_its_200(
    client: Client, key: IngestKey, monitor: Monitor, fields: dict[str, object], kind: str, field: str
):
    assert post_envelope(client, key, envelope_of(check_in(**fields))).status_code == 200
    assert CheckIn.objects.count() == 0
    assert [error[:2] for error in stored_errors()] == [(kind, field)]


@pytest.mark.parametrize("payload", [b"hello", b"[" * 50_000, b"5", b"null", b'"\\u0000\\ud800"', b"\xff\xfe"])
def test_a_check_in_that_is_no_json_object_is_stored_as_an_error(client: Client, key: IngestKey, payload: bytes):
    assert post_envelope(client, key, envelope_of(("check_in", payload))).status_code == 200
    assert stored_errors() == [("CHECKIN_VALIDATION_FAILED", "", "")]


def test_nul_and_lone_surrogates_anywhere_do_not_keep_a_check_in_from_being_stored(
    client: Client, key: IngestKey, monitor: Monitor
):
    body = envelope_of(
        check_in(monitor_slug="night\x00ly", release="\ud800\x00", duration="\x00", **{"\x00": [float("nan")]})
    )
    assert post_envelope(client, key, body).status_code == 200
    assert CheckIn.objects.get().monitor_environment.monitor_id == monitor.id
    assert stored_errors() == [("CHECKIN_VALIDATION_FAILED", "duration", "nightly")]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"hello", "not JSON"),
        (b'{}\n{"type":"check_in","length":500}\n{}', "only 2 follow"),
    ],
)
def test_a_broken_envelope_is_400_and_stored_as_an_error(client: Client, key: IngestKey, body: bytes, says: str):
    assert_error(post_envelope(client, key, body), 400, says=says)
    assert stored_errors() == [("CHECKIN_VALIDATION_FAILED", "", "")]


@pytest.mark.parametrize(("encoding", "says"), [("gzip", "valid gzip"), ("compress", "is not known")])
def test_a_body_that_cannot_be_decompressed_is_400(client: Client, key: IngestKey, encoding: str, says: str):
    assert_error(post_envelope(client, key, b"hello", **{"content-encoding": encoding}), 400, says=says)
    assert stored_errors() == [("CHECKIN_VALIDATION_FAILED", "", "")]


def test_a_decompression_bomb_is_413(client: Client, key: IngestKey):
    bomb = gzip.compress(bytes(limits().body_bytes_max + 1))
    assert_error(post_envelope(client, key, bomb, **{"content-encoding": "gzip"}), 413, says="more than")


@pytest.fixture
def small_bodies(settings: Any) -> Iterator[None]:
    settings.INGEST_BODY_BYTES_MAX = 1000
    limits.cache_clear()
    yield
    limits.cache_clear()


def test_a_body_that_is_too_large_is_413(client: Client, key: IngestKey, small_bodies: None):
    body = envelope_of(("event", b"x" * 1000))
    assert_error(post_envelope(client, key, body), 413, says="at most 1000 are read")
    assert post_envelope(client, key, envelope_of(("event", b"x" * 900))).status_code == 200


def test_a_check_in_that_is_too_large_is_413_and_the_others_of_its_envelope_count(
    client: Client, key: IngestKey, monitor: Monitor
):
    body = envelope_of(check_in(x="x" * limits().checkin_bytes_max), check_in())
    assert_error(post_envelope(client, key, body), 413, says="check_in item")
    assert CheckIn.objects.count() == 1
    assert [error[0] for error in stored_errors()] == ["CHECKIN_VALIDATION_FAILED"]


@pytest.mark.parametrize("end", ["cut", "silence"])
def test_an_envelope_that_is_cut_off_is_400_and_stored_as_an_error(key: IngestKey, settings: Any, end: str):
    settings.INGEST_BODY_SECONDS = 0.01
    headers = [(b"x-sentry-auth", sentry_header(key).encode()), (b"transfer-encoding", b"chunked")]
    scope = scope_of("POST", f"/api/{key.project_id}/envelope/", headers=headers)
    start, body = send(scope, envelope_of(check_in())[:-20], end=end)
    assert (start["status"], b"follow" in body) == (400, True)
    assert stored_errors() == [("CHECKIN_VALIDATION_FAILED", "", "")]


@pytest.mark.parametrize("end", ["complete", "cut", "silence"])
def test_a_ping_counts_however_its_body_ends(monitor: Monitor, settings: Any, end: str):
    settings.INGEST_BODY_SECONDS = 0.01
    scope = scope_of("POST", f"/ping/{monitor.guid}", headers=[(b"content-length", b"100")])
    start, body = send(scope, b"rows=3 \xc3", end=end)
    assert (start["status"], body) == (200, b"OK")
    assert CheckIn.objects.get().status == "ok"
    assert bytes(CheckInLog.objects.get().body) == b"rows=3 \xc3"


def test_of_a_large_body_of_a_ping_the_last_part_is_kept(monitor: Monitor):
    scope = scope_of("POST", f"/ping/{monitor.guid}/fail", headers=[(b"transfer-encoding", b"chunked")])
    chunks = [bytes([number % 256]) * 50_000 for number in range(60)]
    start, body = send(scope, *chunks)
    assert (start["status"], body) == (200, b"OK")
    log = CheckInLog.objects.get()
    assert (bytes(log.body), log.size_bytes) == (chunks[-2] + chunks[-1], 3_000_000)


def upload(path: str, *chunks: bytes, is_known: bool | None, bytes_max: int = 4 << 20, headers: Any = ()) -> Any:
    """Send a body in chunks to the edge, and return the answer's status and body, or None if it would be stored."""
    batcher = Batcher()
    batcher.room = Room(bytes_max)
    batcher.is_known = is_known
    scope = scope_of("POST", path, headers=[(b"transfer-encoding", b"chunked"), *headers])
    try:
        start, body = run_edge(batcher, scope, chunks, "complete")
    except Submitted as submitted:
        return submitted.request
    finally:
        assert batcher.room.held == 0
    return start["status"], body


@pytest.mark.parametrize(
    ("is_known", "status", "says"), [(False, 403, b"not an active key"), (None, 503, b"65536 unpacked bytes")]
)
def test_d35_of_a_sender_that_is_not_known_no_more_than_a_small_body_is_kept(is_known, status, says):
    sentry = [(b"x-sentry-auth", b"Sentry sentry_key=" + b"a" * 32)]
    answered, body = upload("/api/1/envelope/", *[b"x" * 40_000] * 2, is_known=is_known, headers=sentry)
    assert (answered, says in body) == (status, True)
    assert upload("/api/1/envelope/", *[b"x" * 30_000] * 2, is_known=is_known, headers=sentry).body_bytes == 60_000


def test_d35_a_key_in_the_body_is_good_for_a_small_body():
    answered, body = upload("/api/1/envelope/", *[b"x" * 40_000] * 2, is_known=True)
    assert (answered, b"at most 65536 bytes" in body) == (413, True)
    assert upload("/api/1/envelope/", *[b"x" * 30_000] * 2, is_known=True).body_bytes == 60_000


def test_d35_a_ping_counts_while_nobody_can_say_whose_it_is_and_the_end_of_its_body_is_kept(monitor: Monitor):
    request = upload(f"/ping/{monitor.guid}", *[b"x" * 40_000] * 3, b"the end", is_known=None)
    assert (len(request.body), request.body[-7:], request.body_bytes) == (32_768, b"the end", 120_007)


def test_d35_a_known_sender_that_finds_no_room_is_refused():
    sentry = [(b"x-sentry-auth", b"Sentry sentry_key=" + b"a" * 32)]
    status, body = upload("/api/1/envelope/", *[b"x" * (1 << 20)] * 4, is_known=True, headers=sentry)
    assert (status, b"nothing was stored" in body) == (503, True)


@pytest.mark.parametrize("end", ["complete", "cut", "silence"])
def test_d35_an_upload_that_has_lost_its_place_is_refused_however_it_ends(settings: Any, end: str):
    settings.INGEST_BODY_SECONDS = 0.01

    class Full(Room):
        """Somebody else needs the room as soon as this one's body has begun."""

        def resize(self, place: Place, size: int) -> bool:
            there_was = super().resize(place, size)
            self._lose(place)
            return there_was

    batcher = Batcher()
    batcher.room = Full(4 << 20)
    scope = scope_of("POST", "/api/1/envelope/", headers=[(b"transfer-encoding", b"chunked")])
    start, body = run_edge(batcher, scope, (b"{}",), end)
    assert (start["status"], b"nothing was stored" in body) == (503, True)


# Whose is it?


def basic(user: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:".encode()).decode()


@pytest.mark.parametrize("place", ["header", "authorization", "basic", "query", "dsn"])
def test_every_form_of_authorization_is_accepted(client: Client, key: IngestKey, monitor: Monitor, place: str):
    headers = {
        "header": {"x-sentry-auth": sentry_header(key)},
        "authorization": {"authorization": sentry_header(key)},
        "basic": {"authorization": basic(key.public_key)},
    }.get(place, {})
    query = f"?sentry_version=7&sentry_key={key.public_key}&sentry_client=x%2F1" if place == "query" else ""
    header: dict[str, object] = {"dsn": f"http://{key.public_key}@host/1"} if place == "dsn" else {}
    response = client.generic(
        "POST", f"/api/{key.project_id}/envelope/{query}", envelope_of(check_in(), header=header), headers=headers
    )
    assert response.status_code == 200
    assert CheckIn.objects.count() == 1


def test_a_dsn_in_the_envelope_is_ignored_where_the_request_names_a_key(
    client: Client, key: IngestKey, monitor: Monitor
):
    body = envelope_of(check_in(), header={"dsn": "http://another@host/1"})
    assert post_envelope(client, key, body).status_code == 200


def test_requests_that_do_not_say_whose_they_are(client: Client, key: IngestKey):
    path, body = f"/api/{key.project_id}/envelope/", envelope_of(check_in())
    good = sentry_header(key)

    def post(body: bytes = body, query: str = "", **headers: str) -> Any:
        return client.generic("POST", path + query, body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    assert_error(post(), 401, says="missing authorization")
    assert_error(post(b"hello"), 401, says="missing authorization")
    assert_error(post(authorization="Bearer abc"), 401, says="missing authorization")
    assert_error(post(x_sentry_auth="Sentry sentry_version=7"), 401, says="names no sentry_key")
    assert_error(post(x_sentry_auth=good, authorization=good), 401, says="multiple")
    assert_error(post(x_sentry_auth=good, query=f"?sentry_key={key.public_key}"), 401, says="multiple")
    assert_error(post(x_sentry_auth=good.replace("=7", "=8")), 400, says="version")
    assert_error(post(x_sentry_auth="Sentry sentry_key=abc"), 400, says="malformed")
    assert_error(post(envelope_of(header={"dsn": "http://abc@host/1"})), 400, says="malformed")
    assert_error(post(x_sentry_auth="Sentry sentry_key=" + "f" * 32), 403, says="not an active key")
    assert_error(post(envelope_of(header={"dsn": f"http://{'f' * 32}@host/1"})), 403, says="not an active key")
    assert stored_errors() == []


def test_a_key_of_another_project_and_an_inactive_key_are_403(client: Client, key: IngestKey, monitor: Monitor):
    other = IngestKeyFactory()
    body = envelope_of(check_in())
    assert post_envelope(client, key, body).status_code == 200
    for project_id in (other.project_id, 0, 2**53, 10**19):
        response = client.generic(
            "POST", f"/api/{project_id}/envelope/", body, headers={"x-sentry-auth": sentry_header(key)}
        )
        assert_error(response, 403, says="not an active key")
    key.is_active = False
    key.save()
    assert_error(post_envelope(client, key, body), 403, says="not an active key")
    assert CheckIn.objects.count() == 1


# One check-in over plain HTTP


def cron_path(key: IngestKey, slug: str = "nightly") -> str:
    return f"/api/{key.project_id}/cron/{slug}/{key.public_key}"


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("slash", ["", "/"])
def test_a_plain_request_checks_in(client: Client, key: IngestKey, monitor: Monitor, method: str, slash: str):
    query = f"?status=error&duration=1.5&environment=staging&check_in_id={uuid.UUID(ID_TEXT)}"
    response = client.generic(method, cron_path(key) + slash + query)
    assert (response.status_code, response.content) == (202, b"")
    stored = CheckIn.objects.get()
    assert (stored.guid, stored.status, stored.duration_ms) == (uuid.UUID(ID_TEXT), "error", 1500)
    assert stored.monitor_environment.environment.name == "staging"
    assert stored.source == "sentry_http"


def test_a_pair_without_ids_is_one_run(client: Client, key: IngestKey, monitor: Monitor):
    assert client.get(cron_path(key) + "?status=in_progress").status_code == 202
    assert client.get(cron_path(key) + "?status=ok").status_code == 202
    assert CheckIn.objects.get().status == "ok"


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_a_json_body_checks_in_and_configures(client: Client, key: IngestKey, content_type: str):
    body = {"status": "ok", "monitor_slug": "ignored", "monitor_config": CRONTAB}
    response = client.post(cron_path(key), json.dumps(body), content_type=content_type)
    assert (response.status_code, response.content) == (202, b"")
    assert Monitor.objects.get().slug == "nightly"
    assert CheckIn.objects.get().status == "ok"


def test_with_a_json_body_the_query_is_not_read(client: Client, key: IngestKey, monitor: Monitor):
    response = client.post(cron_path(key) + "?status=ok", b"{}", content_type="application/json")
    assert_error(response, 400, says="cannot be read")
    assert json.loads(response.content)["causes"] == [
        "status (not sent) was refused: it takes one of in_progress, ok, error."
    ]
    assert CheckIn.objects.count() == 0


def test_with_any_other_body_the_body_is_not_read(client: Client, key: IngestKey, monitor: Monitor):
    response = client.post(cron_path(key) + "?status=ok", b'{"status":"error"}', content_type="text/plain")
    assert response.status_code == 202
    assert CheckIn.objects.get().status == "ok"


@pytest.mark.parametrize("place", ["header", "basic", "query"])
def test_the_path_may_end_at_the_slug(client: Client, key: IngestKey, monitor: Monitor, place: str):
    headers = {"header": {"x-sentry-auth": sentry_header(key)}, "basic": {"authorization": basic(key.public_key)}}
    query = f"&sentry_key={key.public_key}" if place == "query" else ""
    for slash in ("", "/"):
        path = f"/api/{key.project_id}/cron/nightly{slash}?status=ok{query}"
        assert client.get(path, headers=headers.get(place, {})).status_code == 202
    assert CheckIn.objects.count() == 2


@pytest.mark.parametrize("slug", ["Some%20Job", "some%2Fjob", "s%C3%B6me.job", "-some-job-"])
def test_the_slug_of_the_path_is_taken_raw(client: Client, key: IngestKey, slug: str):
    for raw in ("some-job", "somejob"):
        MonitorFactory(project=key.project, slug=raw)
    assert client.get(cron_path(key, slug) + "?status=ok").status_code == 202
    assert CheckIn.objects.count() == 1


@pytest.mark.parametrize(
    ("query", "kind", "field"),
    [
        ("?status=success", "CHECKIN_VALIDATION_FAILED", "status"),
        ("?status=ok&environment=" + "x" * 65, "MONITOR_INVALID_ENVIRONMENT", "environment"),
        ("?status=ok&environment=%00", "MONITOR_INVALID_ENVIRONMENT", "environment"),
    ],
)
def test_a_value_that_only_processing_understands_is_202_and_stored_as_an_error(
    client: Client, key: IngestKey, monitor: Monitor, query: str, kind: str, field: str
):
    assert client.get(cron_path(key) + query).status_code == 202
    assert CheckIn.objects.count() == 0
    assert stored_errors() == [(kind, field, "nightly")]


def test_d18_a_bad_duration_is_202_and_the_check_in_counts(client: Client, key: IngestKey, monitor: Monitor):
    assert client.get(cron_path(key) + "?status=ok&duration=soon").status_code == 202
    assert CheckIn.objects.get().duration_ms is None
    assert stored_errors() == [("CHECKIN_VALIDATION_FAILED", "duration", "nightly")]


def test_d17_an_unknown_monitor_is_202_and_the_check_in_waits(client: Client, key: IngestKey):
    assert client.get(cron_path(key) + "?status=ok").status_code == 202
    assert [waiting.slug for waiting in WaitingCheckIn.objects.all()] == ["nightly"]
    assert stored_errors() == []


@pytest.mark.parametrize(
    ("query", "kind", "field"),
    [
        ("", "CHECKIN_VALIDATION_FAILED", "status"),
        ("?status=", "CHECKIN_VALIDATION_FAILED", "status"),
        ("?status=ok&check_in_id=job-17", "CHECKIN_INVALID_GUID", "check_in_id"),
    ],
)
def test_a_query_that_cannot_be_read_is_400_and_stored_as_an_error(
    client: Client, key: IngestKey, monitor: Monitor, query: str, kind: str, field: str
):
    assert_error(client.get(cron_path(key) + query), 400, says="cannot be read")
    assert stored_errors() == [(kind, field, "nightly")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b" ", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b"[" * 50_000, 400),
        (b" " * (limits().checkin_bytes_max + 1), 413),
    ],
)
def test_a_json_body_that_cannot_be_read_is_refused_and_stored_as_an_error(
    client: Client, key: IngestKey, monitor: Monitor, body: bytes, status: int
):
    response = client.post(cron_path(key), body, content_type="application/json")
    assert_error(response, status, says="")
    assert stored_errors() == [("CHECKIN_VALIDATION_FAILED", "", "nightly")]


def test_too_many_parameters_are_400(client: Client, key: IngestKey):
    assert_error(client.get(cron_path(key) + "?" + "a=1&" * 1001), 400, says="cannot be read")


def test_the_plain_endpoint_checks_keys_as_the_other_does(client: Client, key: IngestKey, monitor: Monitor):
    base = f"/api/{key.project_id}/cron/nightly"
    assert_error(client.get(base + "?status=ok"), 401, says="missing authorization")
    assert_error(client.get(f"{cron_path(key)}?status=ok&sentry_key={key.public_key}"), 401, says="multiple")
    assert_error(client.get(f"{base}/abc/?status=ok"), 400, says="malformed")
    assert_error(client.get(f"{base}/{'f' * 32}/?status=ok"), 403, says="not an active key")
    other = IngestKeyFactory()
    assert_error(client.get(f"{base}/{other.public_key}/?status=ok"), 403, says="not an active key")
    assert CheckIn.objects.count() == 0
    assert stored_errors() == []


# For all of them


@pytest.fixture(params=["envelope", "envelope/", "cron/nightly", "cron/nightly/", "cron/nightly/{key}/"])
def endpoint(request: pytest.FixtureRequest, key: IngestKey) -> str:
    return f"/api/{key.project_id}/{request.param.format(key=key.public_key)}"


def test_a_preflight_is_answered_for_any_origin(client: Client, endpoint: str):
    response = client.options(endpoint, headers={"origin": "https://example.com"})
    assert response.status_code == 204
    assert response["Access-Control-Allow-Origin"] == "*"
    assert "X-Sentry-Auth" in response["Access-Control-Allow-Headers"]
    assert "POST" in response["Access-Control-Allow-Methods"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD"])
def test_other_methods_are_405(client: Client, endpoint: str, method: str):
    response = client.generic(method, endpoint)
    assert response.status_code == 405
    assert "POST" in response["Allow"]


def test_no_answer_is_a_redirect_and_each_is_open_to_any_origin(client: Client, endpoint: str):
    for method in ("GET", "POST", "PUT"):
        response = client.generic(method, endpoint)
        assert response.status_code in (400, 401, 405)
        assert response["Access-Control-Allow-Origin"] == "*"


def test_a_path_that_a_server_decodes_to_what_cannot_be_stored_is_still_a_ping(monitor: Monitor, key: IngestKey):
    start, _ = send(scope_of("GET", f"/api/{key.project_id}/cron/ni\udcffght\x00ly/{key.public_key}", b"status=ok"))
    assert start["status"] == 202
    assert CheckIn.objects.get().monitor_environment.monitor == monitor

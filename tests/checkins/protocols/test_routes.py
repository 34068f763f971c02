"""Which protocol an address belongs to: every form of each, with and without trailing slash, and nothing else."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkins.protocols import cronitor, healthchecks, rest, sentry, uptime_kuma
from checkins.protocols.request import Protocol
from checkins.protocols.routes import find_protocol, find_route, is_ingest_path

KEY = "0123456789abcdef0123456789abcdef"
GUID = "f47ac10b-58cc-4372-a567-0e02b2c3d479"
MODULES = (sentry, healthchecks, cronitor, uptime_kuma, rest)

Routes = tuple[tuple[re.Pattern[str], Protocol], ...]


def protocols_of(routes: Routes) -> list[Protocol]:
    return [protocol for _, protocol in routes]


def routes_of(module: object) -> Routes:
    routes: Routes = module.ROUTES  # type: ignore[attr-defined]
    return routes


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize(
    ("path", "module", "address"),
    [
        ("/api/42/envelope", sentry, {"project_id": "42"}),
        ("/some/prefix/api/42/envelope", sentry, {"project_id": "42"}),
        ("/api/v1/api/42/envelope", sentry, {"project_id": "42"}),
        ("/api/42/cron/nightly", sentry, {"project_id": "42", "slug": "nightly"}),
        (f"/api/42/cron/nightly/{KEY}", sentry, {"project_id": "42", "slug": "nightly", "key": KEY}),
        ("/api/42/cron/envelope", sentry, {"project_id": "42", "slug": "envelope"}),
        ("/api/v1/checkins", rest, {}),
        (f"/api/push/{GUID}", uptime_kuma, {"guid": GUID}),
        ("/api/push/anything", uptime_kuma, {}),
        (f"/ping/{GUID}", healthchecks, {"guid": GUID}),
        (f"/ping/{GUID}/start", healthchecks, {"guid": GUID, "action": "start"}),
        (f"/ping/{GUID}/complete", healthchecks, {"guid": GUID, "action": "complete"}),
        (f"/ping/{KEY}/nightly", healthchecks, {"key": KEY, "monitor": "nightly"}),
        (f"/ping/{KEY}/nightly/3", healthchecks, {"key": KEY, "monitor": "nightly", "action": "3"}),
        (f"/ping/{KEY}/envelope", healthchecks, {"key": KEY, "monitor": "envelope"}),
        ("/ping", healthchecks, {}),
        (f"/p/{KEY}/nightly", cronitor, {"key": KEY, "monitor": "nightly"}),
        (f"/p/{KEY}/nightly/run", cronitor, {"key": KEY, "monitor": "nightly", "action": "run"}),
        ("/p", cronitor, {}),
    ],
)
def test_an_address_has_one_protocol(path: str, slash: str, module: object, address: dict[str, str]):
    found = find_route(path + slash)
    assert found is not None
    protocol, groups = found
    assert protocol in protocols_of(routes_of(module))
    assert groups == address


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "*",
        "/admin/",
        "/static/app.js",
        "/api",
        "/api/",
        "/api/v1/",
        "/api/v1/monitors",
        "/api/v1/checkins/1",
        "/v1/api/v1/checkins",
        "/api/pushed",
        "/api/42/store/",
        "/pings/x",
        "/Ping/x",
        "/envelope/",
        "/api/x/envelope/",
        "/admin/envelope/",
        f"/prefix/ping/{GUID}",
        f"ping/{GUID}",
    ],
)
def test_every_other_address_is_somebody_else_s(path: str):
    assert find_route(path) is None


SEGMENTS = st.sampled_from(["api", "ping", "p", "push", "v1", "checkins", "42", "cron", "envelope", KEY, GUID, "a", ""])


@given(st.lists(SEGMENTS, max_size=6).map("/".join) | st.text(max_size=30))
def test_a_route_is_the_only_protocol_of_its_address_or_the_first_segment_decides(path: str):
    claims = {module.__name__ for module in MODULES if any(pattern.fullmatch(path) for pattern, _ in routes_of(module))}
    found = find_route(path)
    if found is None:
        assert not claims
    else:
        owners = {module.__name__ for module in MODULES if found[0] in protocols_of(routes_of(module))}
        assert owners <= claims
        # A DSN may have any path before Sentry's own: only that form can look like another's.
        assert len(claims) == 1 or (sentry.__name__ in claims and path.rstrip("/").endswith("/envelope"))


@pytest.mark.parametrize(
    "path",
    [
        "/api/42/store/",
        "/api/42",
        "/api/push",
        "/ping/x/y/z/0",
        "/p/nowhere",
        "/prefix/api/x/envelope/",
        f"//ping/{GUID}",
        "//api/42/envelope/",
        f"/api//push/{GUID}",
    ],
)
def test_what_a_client_may_mean_as_a_check_in_is_answered_by_ingest(path: str):
    assert is_ingest_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/admin/",
        "/api",
        "/api/",
        "/api/v1/",
        "/api/v1/monitors",
        "/api/v1/checkins/1",
        "/api/pushed",
        "/api/\u0664",
    ],
)
def test_the_rest_of_the_api_is_djangos(path: str):
    assert not is_ingest_path(path)


@given(st.lists(SEGMENTS, max_size=6).map("/".join) | st.text(max_size=30))
def test_ingest_answers_every_address_that_has_a_protocol(path: str):
    assert is_ingest_path(path) or find_route(path) is None


@given(st.lists(SEGMENTS, max_size=6).map("/".join) | st.text(max_size=30))
@example(f"ping/{GUID}")
@example("xping")
def test_who_does_not_ask_for_the_address_gets_the_same_protocol(path: str):
    found = find_route(path)
    assert find_protocol(path) is (None if found is None else found[0])


def test_patterns_name_what_they_capture_and_leave_preflights_alone():
    for module in MODULES:
        for pattern, protocol in routes_of(module):
            assert pattern.groups == len(pattern.groupindex)
            assert protocol.methods is None or "OPTIONS" not in protocol.methods

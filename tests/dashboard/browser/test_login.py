"""Logging in with a real browser: a passkey is added and is enough from then on; all these pages are clean."""

from typing import Any

import pytest
from allauth.socialaccount.providers import registry
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from django.contrib.auth.models import User

from lib.valkey import valkey
from tests.dashboard.browser.conftest import WATCH_VIOLATIONS, problems_of
from tests.dashboard.browser.test_pages import LOOKS

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("browser"), pytest.mark.long]
PASSWORD = "long enough for a test"
AUTHENTICATOR = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


@pytest.fixture(autouse=True)
def _nobody_has_tried(engines):
    for key in valkey().scan_iter("watchclock:cache:*"):
        valkey().delete(key)


def check(page, found):
    page.wait_for_load_state("load")
    width = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    address = page.url.partition("//")[2].partition("/")[2]
    found[address] = (problems_of(page), page.evaluate("violations"), max(width, 0))


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_a_passkey_is_set_up_at_the_first_login_and_is_enough_at_the_next(browser, live_server, settings, look):
    settings.SECOND_FACTOR_REQUIRED = True
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    context = browser.new_context(base_url=live_server.url, **LOOKS[look])
    context.add_init_script(WATCH_VIOLATIONS)
    page = context.new_page()
    devices = context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
    found: dict[str, Any] = {}

    page.goto("/login/")
    check(page, found)
    page.get_by_label("Name or e-mail address").fill("ann@example.com")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.get_by_text("Your account has no second factor yet").wait_for()
    check(page, found)
    page.get_by_role("link", name="Set up an app").click()
    page.get_by_text("Scan this picture").wait_for()
    check(page, found)
    page.go_back()
    page.get_by_role("link", name="Add a passkey").click()
    page.get_by_label("Also log in with it alone").check()
    check(page, found)
    page.get_by_role("button", name="Add the passkey").click()
    page.get_by_text("Store them where you find them").wait_for()
    check(page, found)
    page.get_by_role("link", name="Stored; go on").click()
    page.wait_for_url(f"{live_server.url}/")
    for address in ("", "passkeys/", "codes/new/"):
        page.goto(f"/account/second-factor/{address}")
        check(page, found)
    for address in ("/account/sessions/", "/account/password/"):
        page.goto(address)
        check(page, found)

    page.locator("header details.menu summary").click()
    page.get_by_role("button", name="Log out").click()
    page.get_by_role("button", name="Log in with a passkey").click()
    page.wait_for_url(f"{live_server.url}/")

    page.goto("/account/sessions/")
    page.locator("header details.menu summary").click()
    page.get_by_role("button", name="Log out").click()
    page.get_by_label("Name or e-mail address").fill("ann")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.get_by_role("button", name="Use a passkey").wait_for()
    check(page, found)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url(f"{live_server.url}/")
    for address in ("/login/reset/", "/login/reset/sent/", "/login/reset/1-x/", "/login/inactive/", "/logout/"):
        page.goto(address)
        check(page, found)
    context.close()
    assert found == {address: ([], [], 0) for address in found}


def test_the_pages_of_a_company_are_clean(browser, live_server, settings):
    settings.OIDC_ISSUER, settings.OIDC_NAME = "http://127.0.0.1:1", "Example Inc."
    app = {"provider_id": settings.OIDC_PROVIDER_ID, "client_id": "x", "settings": {"server_url": settings.OIDC_ISSUER}}
    settings.SOCIALACCOUNT_PROVIDERS = {"openid_connect": {"APPS": [app]}}
    registry.register(OpenIDConnectProvider)
    context = browser.new_context(base_url=live_server.url, **LOOKS["phone"])
    context.add_init_script(WATCH_VIOLATIONS)
    page = context.new_page()
    found: dict[str, Any] = {}
    page.goto("/login/?next=/wall/")
    check(page, found)
    page.get_by_role("link", name="Log in with Example Inc.").click()
    page.get_by_role("heading", name="Not logged in").wait_for()
    check(page, found)
    page.get_by_role("link", name="Back to the login").click()
    page.get_by_role("heading", name="Log in").wait_for()
    context.close()
    assert found == {address: ([], [], 0) for address in found}

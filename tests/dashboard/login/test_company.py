"""Logging in at a company: a real provider of OpenID Connect runs beside the test, and is no part of our login."""

from urllib.parse import parse_qs, urlsplit

import jwt
import oidc_provider_mock
import pytest
import requests
from allauth.socialaccount.models import SocialAccount
from allauth.socialaccount.providers import registry
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from accounts.groups import GroupRole, parse_group_role, wanted_roles
from accounts.models import Membership
from accounts.roles import Role
from audit.models import AuditEntry
from project import env
from project.company import from_environment, provider_id, providers
from tests import factories
from tests.dashboard.pages.conftest import words

pytestmark = [
    pytest.mark.django_db,
    # The provider is behind its library.
    pytest.mark.filterwarnings("ignore:get_jwt_config:DeprecationWarning"),
]
PASSWORD = "long enough for a test"
CALLBACK = "/login/company/callback/"


@pytest.fixture(scope="module")
def provider():
    with oidc_provider_mock.run_server_in_thread(require_client_registration=True) as server:
        issuer = f"http://localhost:{server.server_port}"
        wanted = {
            "redirect_uris": [f"http://testserver{CALLBACK}"],
            "token_endpoint_auth_method": "client_secret_post",
        }
        client = requests.post(f"{issuer}/oauth2/clients", json=wanted, timeout=10).json()
        yield issuer, client["client_id"], client["client_secret"]


@pytest.fixture
def issuer(provider, settings):
    """The provider, as the settings name it."""
    issuer, client_id, secret = provider
    settings.OIDC_ISSUER, settings.OIDC_NAME = issuer, "Example Inc."
    settings.SOCIALACCOUNT_PROVIDERS = providers(issuer, client_id=client_id, secret=secret, name="Example Inc.")
    [app] = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"]
    # The address of the return has no part of the issuer, and is made when the server starts: here, before the issuer.
    app["provider_id"] = settings.OIDC_PROVIDER_ID
    settings.SECOND_FACTOR_REQUIRED = True
    registry.register(OpenIDConnectProvider)  # Its app is installed where a process starts with a provider.
    return issuer


@pytest.fixture
def project():
    return factories.ProjectFactory(slug="shop")


@pytest.fixture
def log_in(issuer):
    """Log in there as somebody with these claims; returns the answer to the return, and its client."""

    def log_in(sub="ann", *, next_page="", **claims):
        requests.put(f"{issuer}/users/{sub}", json=claims, timeout=10).raise_for_status()
        client = Client()
        there = client.get("/login/company/", {"next": next_page} if next_page else {})["Location"]
        back = requests.post(there, data={"sub": sub}, allow_redirects=False, timeout=10).headers["Location"]
        return client, client.get(back.removeprefix("http://testserver"))

    return log_in


@pytest.fixture
def groups(settings, project):
    settings.OIDC_GROUP_ROLES = [
        GroupRole("everybody", "shop", Role.VIEWER),
        GroupRole("ops", "shop", Role.EDITOR),
        GroupRole("ops", "gone", Role.OWNER),
    ]


def roles():
    return {str(row.user): row.role for row in Membership.objects.select_related("user")}


def test_the_login_has_a_button_only_where_there_is_a_provider(client, issuer, settings):
    assert '/login/company/?next=/wall/">Log in with Example Inc.' in client.get("/login/?next=/wall/").text.replace(
        "%2F", "/"
    )
    settings.OIDC_ISSUER, settings.SOCIALACCOUNT_PROVIDERS = "", {}
    assert "/login/company/" not in client.get("/login/").text
    assert client.get("/login/company/").status_code == 404


def test_it_asks_with_a_state_and_a_challenge_and_for_nothing_but_a_login(client, issuer):
    query = parse_qs(urlsplit(client.get("/login/company/")["Location"]).query)
    assert query["redirect_uri"] == [f"http://testserver{CALLBACK}"]
    assert query["code_challenge_method"] == ["S256"]
    assert set(query["scope"][0].split()) == {"openid", "profile", "email"}
    assert len(query["state"][0]) >= 16
    assert client.get("/login/company/?process=connect").status_code == 404
    assert client.post("/login/company/").status_code == 404


def test_a_member_of_a_group_gets_an_account_with_its_role_and_no_second_factor_is_asked_for(log_in, groups):
    client, answer = log_in(
        next_page="/wall/", groups=["ops", "everybody"], email="ann@example.com", preferred_username="ann"
    )
    assert answer.url == "/wall/"
    assert client.get("/wall/").status_code == 200
    user = User.objects.get()
    assert (user.username, user.email, user.has_usable_password(), user.is_staff) == (
        "ann",
        "ann@example.com",
        False,
        False,
    )
    assert roles() == {"ann": "editor"}
    entries = AuditEntry.objects.order_by("id").values_list("actor_name", "kind", "object_name", "action")
    assert list(entries) == [
        ("single sign-on", "user", "ann", "created"),
        ("single sign-on", "member", "ann", "added"),
    ]


def test_roles_follow_the_groups_at_each_login_and_elsewhere_nothing_changes(log_in, groups):
    log_in(groups=["ops"])
    user = User.objects.get()
    factories.MembershipFactory(user=user, role="owner", project__slug="other")

    def role():
        return Membership.objects.filter(project__slug="shop").values_list("role", flat=True).first()

    log_in(groups=["everybody"])
    assert role() == "viewer"
    log_in()
    assert role() == "viewer"  # No claim is no answer.
    log_in(groups=[])
    assert role() is None
    assert Membership.objects.get().project.slug == "other"


def test_the_last_owner_of_a_project_stays_owner_whatever_the_groups(log_in, groups, caplog, settings):
    settings.OIDC_GROUP_ROLES += [GroupRole("bosses", "shop", Role.OWNER)]
    log_in(groups=["bosses"], preferred_username="ann")
    _, answer = log_in(groups=["everybody"])
    assert (answer.status_code, roles()) == (302, {"ann": "owner"})
    assert "the groups of 'ann' do not apply in shop" in caplog.text


@pytest.mark.parametrize("claims", [{}, {"groups": ["nobody's"]}, {"groups": "x"}])
def test_whoever_has_no_account_and_no_group_with_a_role_is_refused(log_in, groups, claims):
    client, answer = log_in(**claims, email="eve@example.com", email_verified=True)
    assert "you have no account here" in words(answer)
    assert (User.objects.count(), client.get("/").status_code) == (0, 302)


def test_everybody_gets_an_account_if_the_setting_says_so(log_in, settings):
    settings.OIDC_CREATE_ACCOUNTS = True
    client, _ = log_in(preferred_username="ann")
    assert client.get("/").status_code == 200
    assert roles() == {}


def test_a_confirmed_address_leads_to_the_account_that_has_it_whose_password_ends(log_in):
    user = User.objects.create_user("ann", "Ann@Example.com", PASSWORD)
    assert log_in("4711", email="ann@example.com", email_verified=True)[1].status_code == 302
    user.refresh_from_db()
    assert (User.objects.count(), user.has_usable_password()) == (1, False)
    log_in("4711", email="new@example.com", email_verified=False)  # The identity counts from now on.
    assert SocialAccount.objects.get().user == user


def test_an_address_that_is_not_confirmed_leads_to_no_account(log_in, settings):
    settings.OIDC_CREATE_ACCOUNTS = True
    User.objects.create_user("ann", "ann@example.com", PASSWORD)
    client, answer = log_in(email="ann@example.com", email_verified=False)
    assert (answer.status_code, client.get("/").status_code) == (403, 302)
    assert "has not confirmed the address" in words(answer)
    assert (User.objects.count(), SocialAccount.objects.count()) == (1, 0)


def test_a_closed_account_stays_closed(log_in):
    User.objects.create_user("ann", "ann@example.com", PASSWORD, is_active=False)
    client, _ = log_in(email="ann@example.com", email_verified=True)
    assert client.get("/").status_code == 302


def test_an_identity_of_another_issuer_is_somebody_else(log_in, settings):
    settings.OIDC_CREATE_ACCOUNTS = True
    log_in("1", preferred_username="ann")
    SocialAccount.objects.update(provider=provider_id("https://another.example.com"))
    log_in("1", preferred_username="bob")
    assert sorted(User.objects.values_list("username", flat=True)) == ["ann", "bob"]


def test_a_return_that_nobody_asked_for_a_refusal_and_a_wrong_code_lead_to_a_page(client, issuer, caplog):
    assert "Not logged in" in words(client.get(f"{CALLBACK}?code=x&state=forged"))
    for query in ("error=access_denied", "code=wrong"):
        state = parse_qs(urlsplit(client.get("/login/company/")["Location"]).query)["state"][0]
        answer = client.get(f"{CALLBACK}?{query}&state={state}")
        assert (answer.status_code, "Not logged in" in words(answer)) == (403, True)
    assert f"the login at {issuer} failed" in caplog.text


@pytest.fixture
def forge(monkeypatch):
    """Let the provider give tokens with these claims instead of its own; with None there is none."""

    def change(**claims):
        original = OpenIDConnectOAuth2Adapter.get_access_token_data

        def forged(self, *arguments, **named):
            data = original(self, *arguments, **named)
            own = jwt.decode(data["id_token"], options={"verify_signature": False})
            changed = {name: value for name, value in (own | claims).items() if value is not None}
            return data | {"id_token": jwt.encode(changed, "a key of somebody else" * 2, algorithm="HS256")}

        monkeypatch.setattr(OpenIDConnectOAuth2Adapter, "get_access_token_data", forged)

    return change


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"aud": "another client"}, id="for another client"),
        pytest.param({"iss": "https://login.example.com"}, id="of another issuer"),
        pytest.param({"iss": None}, id="of no issuer"),
        pytest.param({"exp": 1_500_000_000}, id="too old"),
        pytest.param({"exp": None}, id="of any age"),
        pytest.param({"nonce": "of another login"}, id="for another login"),
        pytest.param({"nonce": None}, id="for any login"),
        pytest.param({"sub": "bob"}, id="about somebody else"),
    ],
)
def test_a_token_that_is_not_for_this_login_leads_to_a_page_and_to_no_account(log_in, settings, forge, caplog, claims):
    settings.OIDC_CREATE_ACCOUNTS = True
    forge(**claims)
    client, answer = log_in(preferred_username="ann")
    assert (answer.status_code, "Not logged in" in words(answer)) == (403, True)
    assert "The login of your organization gave no answer that can be used." in words(answer)
    assert "Traceback" not in words(answer)
    assert (User.objects.count(), client.get("/").status_code) == (0, 302)
    assert "failed" in caplog.text


def test_a_token_that_is_forged_as_little_as_possible_would_do(log_in, settings, forge):
    """So that the test above fails for its claims only."""
    settings.OIDC_CREATE_ACCOUNTS = True
    forge()
    assert log_in(preferred_username="ann")[0].get("/").status_code == 200


def test_a_code_of_another_login_is_of_no_use(issuer, settings):
    """This provider does not check the challenge of the code (PKCE), so the nonce has to stop it."""
    settings.OIDC_CREATE_ACCOUNTS = True
    requests.put(f"{issuer}/users/ann", json={}, timeout=10).raise_for_status()
    own, other = Client(), Client()
    state = parse_qs(urlsplit(own.get("/login/company/")["Location"]).query)["state"][0]
    there = other.get("/login/company/")["Location"]
    back = requests.post(there, data={"sub": "ann"}, allow_redirects=False, timeout=10).headers["Location"]
    code = parse_qs(urlsplit(back).query)["code"][0]
    answer = own.get(CALLBACK, {"code": code, "state": state})
    assert (answer.status_code, "Not logged in" in words(answer)) == (403, True)
    assert own.get("/").status_code == 302


def test_a_return_to_another_browser_is_refused(issuer, settings):
    settings.OIDC_CREATE_ACCOUNTS = True
    requests.put(f"{issuer}/users/ann", json={}, timeout=10).raise_for_status()
    there = Client().get("/login/company/")["Location"]
    back = requests.post(there, data={"sub": "ann"}, allow_redirects=False, timeout=10).headers["Location"]
    client = Client()
    answer = client.get(back.removeprefix("http://testserver"))
    assert (answer.status_code, "Not logged in" in words(answer)) == (403, True)
    assert client.get("/").status_code == 302


def test_a_provider_that_cannot_be_reached_leads_to_a_page(client, issuer, settings):
    app = settings.SOCIALACCOUNT_PROVIDERS["openid_connect"]["APPS"][0]
    settings.SOCIALACCOUNT_PROVIDERS = {
        "openid_connect": {"APPS": [app | {"settings": {"server_url": "http://127.0.0.1:1"}}]}
    }
    assert "gave no answer" in words(client.get("/login/company/"))


def test_a_provider_is_read_from_settings_and_needs_a_client(monkeypatch):
    monkeypatch.setenv("OIDC_ISSUER", "https://login.example.com/realms/main/")
    with pytest.raises(ImproperlyConfigured, match="OIDC_CLIENT_ID is not"):
        from_environment()
    monkeypatch.setenv("OIDC_CLIENT_ID", "watchclock")
    monkeypatch.setenv("OIDC_CLIENT_SECRET", "s3cret")
    issuer, name, found = from_environment()
    [app] = found["openid_connect"]["APPS"]
    assert (issuer, name) == ("https://login.example.com/realms/main", "single sign-on")
    assert (app["client_id"], app["secret"], app["settings"]) == ("watchclock", "s3cret", {"server_url": issuer})


def test_groups_are_read_from_a_setting(monkeypatch):
    monkeypatch.setenv("OIDC_GROUP_ROLES", "cn=ops=shop:editor, all:staff=shop:viewer")
    assert env.group_roles("OIDC_GROUP_ROLES") == [
        GroupRole("cn=ops", "shop", Role.EDITOR),
        GroupRole("all:staff", "shop", Role.VIEWER),
    ]
    monkeypatch.setenv("OIDC_GROUP_ROLES", "ops=shop:boss")
    with pytest.raises(ImproperlyConfigured, match="'boss' is no role: it is one of viewer, responder, editor, owner"):
        env.group_roles("OIDC_GROUP_ROLES")
    for text in ("ops", "ops=shop", "=shop:viewer", "ops=:viewer"):
        with pytest.raises(ValueError, match=r"no role|is not group=project:role"):
            parse_group_role(text)


def test_the_highest_role_of_all_groups_wins():
    rules = [GroupRole("b", "shop", Role.OWNER), GroupRole("a", "shop", Role.VIEWER), GroupRole("c", "x", Role.VIEWER)]
    assert wanted_roles(["a", "b"], rules) == {"shop": Role.OWNER, "x": None}

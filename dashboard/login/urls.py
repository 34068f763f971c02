"""The addresses of allauth that are served; the names are those by which it finds them. There is no sign-up."""

from functools import partial

from allauth.account import views as account
from django.conf import settings
from django.urls import path, re_path

from dashboard.login import recording
from dashboard.login.company import come_back, company_name, log_in
from dashboard.login.views import imported_later, password, sessions

recording.connect()

# With them come the libraries of passkeys: 10 MiB, and a sixth of a second.
factors = partial(imported_later, "allauth.mfa.base.views")
app = partial(imported_later, "allauth.mfa.totp.views")
codes = partial(imported_later, "allauth.mfa.recovery_codes.views")
passkeys = partial(imported_later, "allauth.mfa.webauthn.views")

urlpatterns = [
    path("login/", account.LoginView.as_view(extra_context={"company": company_name}), name="account_login"),
    path("login/inactive/", account.account_inactive, name="account_inactive"),
    path("logout/", account.logout, name="account_logout"),
    path("account/password/", password, name="account_change_password"),
    path("login/company/", log_in, name="company_login"),
    path(
        "login/company/callback/",
        come_back,
        {"provider_id": settings.OIDC_PROVIDER_ID},
        name="openid_connect_callback",
    ),
    path("account/confirm/", account.reauthenticate, name="account_reauthenticate"),
    path("login/reset/", account.password_reset, name="account_reset_password"),
    path("login/reset/sent/", account.password_reset_done, name="account_reset_password_done"),
    path("login/second-factor/", factors("authenticate"), name="mfa_authenticate"),
    path("login/passkey/", passkeys("login_webauthn"), name="mfa_login_webauthn"),
    path("account/confirm/code/", factors("reauthenticate"), name="mfa_reauthenticate"),
    path("account/confirm/passkey/", passkeys("reauthenticate_webauthn"), name="mfa_reauthenticate_webauthn"),
    path("account/second-factor/", factors("index"), name="mfa_index"),
    path("account/second-factor/app/", app("activate_totp"), name="mfa_activate_totp"),
    path("account/second-factor/app/remove/", app("deactivate_totp"), name="mfa_deactivate_totp"),
    path("account/second-factor/codes/", codes("view_recovery_codes"), name="mfa_view_recovery_codes"),
    path("account/second-factor/codes/new/", codes("generate_recovery_codes"), name="mfa_generate_recovery_codes"),
    path("account/second-factor/codes/file/", codes("download_recovery_codes"), name="mfa_download_recovery_codes"),
    path("account/second-factor/passkeys/", passkeys("list_webauthn"), name="mfa_list_webauthn"),
    path("account/second-factor/passkeys/add/", passkeys("add_webauthn"), name="mfa_add_webauthn"),
    path("account/second-factor/passkeys/<int:pk>/remove/", passkeys("remove_webauthn"), name="mfa_remove_webauthn"),
    path("account/sessions/", sessions, name="usersessions_list"),
    re_path(
        r"^login/reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>[0-9A-Za-z-]+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("login/reset/done/", account.password_reset_from_key_done, name="account_reset_password_from_key_done"),
]

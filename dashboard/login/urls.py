"""The addresses of allauth that are served; the names are those by which it finds them. There is no sign-up."""

from allauth.account import views as account
from django.urls import path, re_path

from dashboard.login.views import password

urlpatterns = [
    path("login/", account.login, name="account_login"),
    path("login/inactive/", account.account_inactive, name="account_inactive"),
    path("logout/", account.logout, name="account_logout"),
    path("account/password/", password, name="account_change_password"),
    path("account/confirm/", account.reauthenticate, name="account_reauthenticate"),
    path("login/reset/", account.password_reset, name="account_reset_password"),
    path("login/reset/sent/", account.password_reset_done, name="account_reset_password_done"),
    re_path(
        r"^login/reset/(?P<uidb36>[0-9A-Za-z]+)-(?P<key>[0-9A-Za-z-]+)/$",
        account.password_reset_from_key,
        name="account_reset_password_from_key",
    ),
    path("login/reset/done/", account.password_reset_from_key_done, name="account_reset_password_from_key_done"),
]

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from dashboard.acknowledge.views import acknowledge
from dashboard.clock import views
from dashboard.hooks.views import hook
from dashboard.unsubscribe.views import unsubscribe

# The admin has the login of the pages, with its limits and its second factor.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("", include("dashboard.pages.urls")),
    path("", include("dashboard.login.urls")),
    # Browsers ask for it wherever a page names none.
    path("favicon.ico", RedirectView.as_view(url=static("favicon.svg"))),
    path("a/<str:token>", acknowledge, name="acknowledge"),
    path("hooks/<uuid:channel_guid>", hook, name="hook"),
    path("hooks/<uuid:channel_guid>/<str:token>", hook),
    path("u/<str:token>", unsubscribe, name="unsubscribe"),
    path("admin/password_change/", RedirectView.as_view(pattern_name="account_change_password")),
    path("admin/clock/", admin.site.admin_view(views.clock), name="clock"),
    path("admin/", admin.site.urls),
]

handler500 = "project.errors.server_error"

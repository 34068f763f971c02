from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

from dashboard.acknowledge.views import acknowledge
from dashboard.clock import views
from dashboard.hooks.views import hook
from dashboard.unsubscribe.views import unsubscribe
from project.login import MemberLoginForm

urlpatterns = [
    path("", include("dashboard.pages.urls")),
    # Browsers ask for it wherever a page names none.
    path("favicon.ico", RedirectView.as_view(url=static("favicon.svg"))),
    path("a/<str:token>", acknowledge, name="acknowledge"),
    path("hooks/<uuid:channel_guid>", hook, name="hook"),
    path("hooks/<uuid:channel_guid>/<str:token>", hook),
    path("u/<str:token>", unsubscribe, name="unsubscribe"),
    path(
        "login/", LoginView.as_view(template_name="pages/login.html", authentication_form=MemberLoginForm), name="login"
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/clock/", admin.site.admin_view(views.clock), name="clock"),
    path("admin/", admin.site.urls),
]

handler500 = "project.errors.server_error"

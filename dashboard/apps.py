from django.apps import AppConfig


class DashboardConfig(AppConfig):
    """Pages for people. Django's admin finds them in `dashboard.admin`."""

    name = "dashboard"

"""Addresses of the ingest endpoints, with and without trailing slash: a redirect would lose the check-in silently."""

from django.urls import re_path

from checkins import api

urlpatterns = [
    re_path(r"^api/(?P<project_id>[0-9]{1,20})/envelope/?$", api.envelope, name="envelope"),
    # A slug may hold slashes (written %2F), so the key is the last of several segments.
    re_path(r"^api/(?P<project_id>[0-9]{1,20})/cron/(?P<slug>.+?)(?:/(?P<key>[^/]+))?/?$", api.cron, name="cron"),
]

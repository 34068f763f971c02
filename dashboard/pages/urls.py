"""The addresses of pages for people. Ingest has `/ping/`, `/p/` and most of `/api/`; links in messages `/a/`, `/u/`."""

from django.urls import path

from dashboard.pages.address.views import ping_address
from dashboard.pages.auditlog.views import audit_log, export_audit_log
from dashboard.pages.channels.views import (
    act_on_channel,
    channel,
    channel_tests,
    new_channel,
    preview_routes,
    project_channels,
)
from dashboard.pages.clock.views import clock
from dashboard.pages.create.views import new_monitor, preview_schedule
from dashboard.pages.incident.views import act_on_incident, incident
from dashboard.pages.issues.views import act_on_issue, issue, issues
from dashboard.pages.maintenance.views import act_on_window, maintenance, new_window, preview_window, window
from dashboard.pages.many.views import act_on_many
from dashboard.pages.monitor.views import act_on_monitor, monitor
from dashboard.pages.now.views import now
from dashboard.pages.preferences.views import confirm, preferences
from dashboard.pages.project.inviting import join
from dashboard.pages.project.views import act_on_project, project, projects
from dashboard.pages.routes.views import act_on_route, matches, new_route, route
from dashboard.pages.run.views import run
from dashboard.pages.savedviews.views import saved_views
from dashboard.pages.schedule.views import edit_schedule
from dashboard.pages.settings.views import edit_monitor
from dashboard.pages.status.views import share_links
from dashboard.pages.wall.views import wall, wall_rows
from dashboard.shared.views import badge_json, badge_svg, status_page, tv

urlpatterns = [
    path("", now, name="now"),
    path("wall/", wall, name="wall"),
    path("wall/rows", wall_rows, name="wall-rows"),
    path("wall/act", act_on_many, name="act-on-many"),
    path("wall/views/", saved_views, name="saved-views"),
    path("new/", new_monitor, name="new-monitor"),
    path("new/schedule", preview_schedule, name="preview-schedule"),
    path("account/preferences/", preferences, name="preferences"),
    path("account/preferences/confirm/<str:token>/", confirm, name="confirm-address"),
    path("clock/", clock, name="clock-page"),
    path("projects/", projects, name="projects"),
    path("projects/<str:project>/", project, name="project"),
    path("projects/<str:project>/act", act_on_project, name="act-on-project"),
    path("projects/<str:project>/audit/", audit_log, name="audit-log"),
    path("projects/<str:project>/audit/export", export_audit_log, name="export-audit-log"),
    path("projects/<str:project>/issues/", issues, name="issues"),
    path("issues/<int:pk>/", issue, name="issue"),
    path("issues/<int:pk>/act", act_on_issue, name="act-on-issue"),
    path("projects/<str:project>/channels/", project_channels, name="project-channels"),
    path("projects/<str:project>/routes/preview", preview_routes, name="preview-routes"),
    path("projects/<str:project>/channels/new/", new_channel, name="new-channel"),
    path("projects/<str:project>/channels/<int:pk>/", channel, name="channel"),
    path("projects/<str:project>/channels/<int:pk>/act", act_on_channel, name="act-on-channel"),
    path("projects/<str:project>/channels/<int:pk>/tests", channel_tests, name="channel-tests"),
    path("projects/<str:project>/routes/new/", new_route, name="new-route"),
    path("projects/<str:project>/routes/matches", matches, name="route-matches"),
    path("projects/<str:project>/routes/<int:pk>/", route, name="route"),
    path("projects/<str:project>/routes/<int:pk>/act", act_on_route, name="act-on-route"),
    path("projects/<str:project>/maintenance/", maintenance, name="maintenance"),
    path("projects/<str:project>/maintenance/new/", new_window, name="new-window"),
    path("projects/<str:project>/maintenance/preview", preview_window, name="preview-window"),
    path("projects/<str:project>/maintenance/<int:pk>/", window, name="window"),
    path("projects/<str:project>/maintenance/<int:pk>/act", act_on_window, name="act-on-window"),
    path("join/<str:token>/", join, name="join"),
    path("projects/<str:project>/status/", share_links, name="share-links"),
    path("s/<str:address>/", status_page, name="status-page"),
    path("b/<str:address>.svg", badge_svg, name="badge-svg"),
    path("b/<str:address>.json", badge_json, name="badge-json"),
    path("tv/<str:address>/", tv, name="tv"),
    path("i/<int:pk>/", incident, name="incident"),
    path("i/<int:pk>/act", act_on_incident, name="act-on-incident"),
    path("m/<str:project>/<str:slug>/", monitor, name="monitor"),
    path("m/<str:project>/<str:slug>/runs/<int:pk>/", run, name="run"),
    path("m/<str:project>/<str:slug>/address/", ping_address, name="ping-address"),
    path("m/<str:project>/<str:slug>/settings/", edit_monitor, name="edit-monitor"),
    path("m/<str:project>/<str:slug>/schedule/", edit_schedule, name="edit-schedule"),
    path("m/<str:project>/<str:slug>/act", act_on_monitor, name="act-on-monitor"),
]

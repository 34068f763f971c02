from django.contrib import admin
from django.urls import path

from clocktasks import views

urlpatterns = [
    path("admin/clock/", admin.site.admin_view(views.clock), name="clock"),
    path("admin/", admin.site.urls),
]

handler500 = "project.errors.server_error"

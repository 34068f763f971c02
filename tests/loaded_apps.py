"""Import this first in a process of our own that needs models. In a process of pytest they are loaded already."""

import os

import django
from django.apps import apps

if not apps.ready:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()

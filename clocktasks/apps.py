from django.apps import AppConfig


class ClocktasksConfig(AppConfig):
    name = "clocktasks"

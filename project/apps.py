"""Django's view of the project."""

from django.apps import AppConfig


class ProjectConfig(AppConfig):
    """Brings the Celery application into every process that uses Django: tasks are sent from all of them."""

    name = "project"

    def ready(self) -> None:
        """Make it the one that `shared_task` means."""
        import project.celery  # noqa: F401

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """The audit log: who changed what, from where, and when."""

    name = "audit"

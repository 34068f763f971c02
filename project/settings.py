"""Django settings, read from the environment. A test holds docs/reference/settings.md to list every variable."""

import logging.config
from collections.abc import Callable
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy
from kombu import Queue

from clocktasks.volume import VolumeRules
from lib.wallclock import ClockSpeed
from monitors.sharding import SHARDS_MAX
from project import beats, company, env, logs
from project.assets import fingerprint
from project.version import VERSION

BASE_DIR = Path(__file__).resolve().parent.parent

# --- What every installation decides -------------------------------------------------------------------------------

DEBUG = env.flag("DEBUG", default=False)
SECRET_KEY = env.text("SECRET_KEY", default="")
if not SECRET_KEY:
    if not DEBUG:
        raise ImproperlyConfigured(
            "SECRET_KEY is not set. It signs sessions, so production does not start without one; make one with "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(64))'. (`make run` makes and keeps its own.)"
        )
    SECRET_KEY = "for debugging only: anyone can read this key in the source"  # noqa: S105
SECRET_KEY_FALLBACKS = env.words("SECRET_KEY_FALLBACKS", default=[])
LOCAL_HOSTS = ["127.0.0.1", "localhost", "[::1]"]
ALLOWED_HOSTS = [*env.words("ALLOWED_HOSTS", default=[]), *LOCAL_HOSTS]
CSRF_TRUSTED_ORIGINS = env.words("CSRF_TRUSTED_ORIGINS", default=[])
DATABASES = {
    "default": env.database(
        "DATABASE_URL", hint="Watchclock keeps everything in PostgreSQL: postgres://user:password@host:5432/watchclock"
    )
    | {"CONN_HEALTH_CHECKS": True}
}
# Between two statements of a transaction of ours pass milliseconds, or seconds where a tick marks thousands.
ABANDONED_TRANSACTION_SECONDS = env.whole_number("ABANDONED_TRANSACTION_SECONDS", default=30, minimum=1, maximum=3600)
REDIS_URL = env.required_text("REDIS_URL", hint="Redis 6.2+ or Valkey: redis://:password@host:6379/0")

# --- The web --------------------------------------------------------------------------------------------------------

PUBLIC_URL = env.web_address("PUBLIC_URL")
HTTPS_ONLY = env.flag("HTTPS_ONLY", default=not DEBUG)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS_ONLY
# Programs rarely follow redirects, and what they have sent by then was sent in the clear.
SECURE_REDIRECT_EXEMPT = [r"^api/"]
SECURE_HSTS_SECONDS = (
    env.whole_number("HSTS_SECONDS", default=31_536_000, minimum=0, maximum=63_072_000) if HTTPS_ONLY else 0
)
if env.flag("TRUST_FORWARDED_PROTO", default=False):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES")
SILENCED_SYSTEM_CHECKS = [
    "security.W001",  # It looks for Django's SecurityMiddleware by name; `project.middleware` has a subclass of it.
    "security.W005",  # HSTS for subdomains: they may hold other people's sites, so this is not ours to say.
    "security.W021",  # HSTS preload: a decision of the domain's owner, and hard to take back.
]

INSTALLED_APPS = [
    "project",
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_htmx",
    # Before allauth, whose templates it replaces.
    "dashboard",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "allauth.socialaccount",
    "audit",
    "monitors",
    "accounts",
    "checkins",
    "incidents",
    "clocktasks",
    "health",
]
MIDDLEWARE = [
    "project.middleware.SecurityMiddleware",
    "project.assets.GZipMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "dashboard.login.factors.SecondFactorMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "project.middleware.content_policy",
    "project.reader.ReaderMiddleware",
]
SECURE_REFERRER_POLICY = "same-origin"
ROOT_URLCONF = "project.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "dashboard.banner.findings",
                "dashboard.pages.shell.surroundings",
            ]
        },
    }
]
_OWN_FILES = [BASE_DIR / app / "static" for app in ("project", "dashboard")]
_THEIR_FILES = ("django", "django-unfold", "django-htmx", "django-allauth")
# All static files lie below one hash of them all: their relative links hold, and browsers keep them for years.
STATIC_URL = f"static/{fingerprint(packages=_THEIR_FILES, directories=_OWN_FILES)}/"
WHITENOISE_IMMUTABLE_FILE_TEST = None if DEBUG else "^/static/"
# Static files are served from the packages that bring them: there is no collectstatic step that could be forgotten.
WHITENOISE_USE_FINDERS = True

# --- Logging in: django-allauth -------------------------------------------------------------------------------------

LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "now"
LOGOUT_REDIRECT_URL = "account_login"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
PASSWORD_HASHERS = [f"django.contrib.auth.hashers.{name}PasswordHasher" for name in ("Argon2", "PBKDF2")]
CACHES = {"default": {"BACKEND": "lib.valkey_cache.ValkeyCache", "KEY_PREFIX": "watchclock:cache"}}
ACCOUNT_ADAPTER = "dashboard.login.adapter.AccountAdapter"
ACCOUNT_FORMS = {
    "login": "dashboard.login.forms.LoginForm",
    "reset_password": "dashboard.login.forms.ResetPasswordForm",
}
ACCOUNT_LOGIN_METHODS = {"username", "email"}
ACCOUNT_SIGNUP_ENABLED = False
ACCOUNT_EMAIL_VERIFICATION = "none"  # Addresses come from administrators, invitations and the company's provider.
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False  # No mail to strangers; a page is as fast with one as without.
ACCOUNT_EMAIL_SUBJECT_PREFIX = "Watchclock: "
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PREVENT_ENUMERATION = True
# `login_failed`: for a name and an address together, see the adapter.
ACCOUNT_RATE_LIMITS = {"login_failed": "10/5m/key", "login": "60/m/ip", "reset_password": "10/m/ip,3/15m/key"}
ACCOUNT_RATE_LIMITS["confirm_email"] = "5/h/user"
SECOND_FACTOR_REQUIRED = env.flag("SECOND_FACTOR_REQUIRED", default=not DEBUG)
MFA_ADAPTER = "dashboard.login.factors.FactorAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_ISSUER = "Watchclock"
MFA_TOTP_TOLERANCE = 1  # Telephones whose clock is half a minute wrong.
# An address that was never confirmed comes from an administrator or a provider here, not from whoever signs up.
MFA_ALLOW_UNVERIFIED_EMAIL = True
OIDC_ISSUER, OIDC_NAME, SOCIALACCOUNT_PROVIDERS = company.from_environment()
OIDC_GROUPS_CLAIM = env.text("OIDC_GROUPS_CLAIM", default="groups")
OIDC_GROUP_ROLES = env.group_roles("OIDC_GROUP_ROLES")
OIDC_CREATE_ACCOUNTS = env.flag("OIDC_CREATE_ACCOUNTS", default=False)
OIDC_PROVIDER_ID = company.provider_id(OIDC_ISSUER)
INSTALLED_APPS += company.apps(OIDC_ISSUER)
SOCIALACCOUNT_ADAPTER = "dashboard.login.company.CompanyAdapter"
SOCIALACCOUNT_LOGIN_ON_GET = True
SOCIALACCOUNT_EMAIL_AUTHENTICATION = SOCIALACCOUNT_EMAIL_AUTHENTICATION_AUTO_CONNECT = True
ACCOUNT_DEFAULT_HTTP_PROTOCOL = "https" if HTTPS_ONLY else "http"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
# Before the texts of packages: one of them would translate "Save" in another way than our pages do.
LOCALE_PATHS = [BASE_DIR / "dashboard" / "locale"]
FORMAT_MODULE_PATH = ["project.formats"]
LANGUAGE_COOKIE_NAME = "watchclock_language"
TIME_ZONE = "UTC"
USE_TZ = True

# --- The spool: check-ins while PostgreSQL is away --------------------------------------------------------------------

_HOME = env.text("WATCHCLOCK_HOME", default=str(BASE_DIR / ".watchclock"))
SPOOL_DIRECTORY = Path(env.text("SPOOL_DIRECTORY", default=str(Path(_HOME, "spool")))).absolute()
SPOOL_BYTES_MAX = env.whole_number("SPOOL_BYTES_MAX", default=1 << 30, minimum=1 << 20, maximum=1 << 40)

# --- What is watched, and how strictly ------------------------------------------------------------------------------

EARLY_CHECKIN_SECONDS = env.seconds("EARLY_CHECKIN_SECONDS", default=5.0, maximum=60.0)
PARKED_CHECKIN_SECONDS = env.seconds("PARKED_CHECKIN_SECONDS", default=120.0, maximum=3600.0)
CHECKIN_LOG_DAYS = env.whole_number("CHECKIN_LOG_DAYS", default=30, minimum=1, maximum=36_500)
CHECKIN_RETENTION_DAYS = env.whole_number("CHECKIN_RETENTION_DAYS", default=90, minimum=0, maximum=36_500)
if 0 < CHECKIN_RETENTION_DAYS < 10:
    raise ImproperlyConfigured(
        f"CHECKIN_RETENTION_DAYS={CHECKIN_RETENTION_DAYS} is less than 10 days: a run may last seven, and take a word "
        "until then. 0 keeps check-ins for ever."
    )
RUN_HOUR_RETENTION_DAYS = env.whole_number("RUN_HOUR_RETENTION_DAYS", default=90, minimum=0, maximum=36_500)
if 0 < RUN_HOUR_RETENTION_DAYS < 10:
    raise ImproperlyConfigured(
        f"RUN_HOUR_RETENTION_DAYS={RUN_HOUR_RETENTION_DAYS} is less than 10 days: a run may last seven, and is counted "
        "in the hour of its start. 0 keeps hours for ever."
    )
_DAYS = {"minimum": 0, "maximum": 36_500}
PROCESSING_ERROR_RETENTION_DAYS = env.whole_number("PROCESSING_ERROR_RETENTION_DAYS", default=7, **_DAYS)
FAILED_CHECKIN_RETENTION_DAYS = env.whole_number("FAILED_CHECKIN_RETENTION_DAYS", default=30, **_DAYS)
LOSS_REPORT_RETENTION_DAYS = env.whole_number("LOSS_REPORT_RETENTION_DAYS", default=30, **_DAYS)
OCCURRENCE_RETENTION_DAYS = env.whole_number("OCCURRENCE_RETENTION_DAYS", default=90, **_DAYS)
NOTIFICATION_RETENTION_DAYS = env.whole_number("NOTIFICATION_RETENTION_DAYS", default=90, **_DAYS)
INCIDENT_RETENTION_DAYS = env.whole_number("INCIDENT_RETENTION_DAYS", default=365, **_DAYS)
ISSUE_RETENTION_DAYS = env.whole_number("ISSUE_RETENTION_DAYS", default=365, **_DAYS)
CONFIG_SNAPSHOT_RETENTION_DAYS = env.whole_number("CONFIG_SNAPSHOT_RETENTION_DAYS", default=100, **_DAYS)
TICK_RETENTION_DAYS = env.whole_number("TICK_RETENTION_DAYS", default=400, **_DAYS)
APPLIED_TICK_RETENTION_DAYS = env.whole_number("APPLIED_TICK_RETENTION_DAYS", default=30, **_DAYS)
HELD_TICK_RETENTION_DAYS = env.whole_number("HELD_TICK_RETENTION_DAYS", default=90, **_DAYS)
CLOCK_INCIDENT_RETENTION_DAYS = env.whole_number("CLOCK_INCIDENT_RETENTION_DAYS", default=730, **_DAYS)
MAINTENANCE_WINDOW_RETENTION_DAYS = env.whole_number("MAINTENANCE_WINDOW_RETENTION_DAYS", default=400, **_DAYS)
ADMIN_LOG_RETENTION_DAYS = env.whole_number("ADMIN_LOG_RETENTION_DAYS", default=730, **_DAYS)
AUDIT_DAYS = env.whole_number("AUDIT_DAYS", default=400, **_DAYS)
CHECKINS_PER_MINUTE = env.whole_number("CHECKINS_PER_MINUTE", default=6, minimum=1, maximum=100_000)
MAINTENANCE_WINDOWS_MAX = env.whole_number("MAINTENANCE_WINDOWS_MAX", default=200, minimum=1, maximum=100_000)
MONITORS_PER_PROJECT = env.whole_number("MONITORS_PER_PROJECT", default=10_000, minimum=1, maximum=10_000_000)
ENVIRONMENTS_PER_MONITOR = env.whole_number("ENVIRONMENTS_PER_MONITOR", default=1_000, minimum=1, maximum=1_000_000)

KEY_MONITORS_PER_HOUR = env.whole_number("KEY_MONITORS_PER_HOUR", default=5_000, minimum=1, maximum=10_000_000)
KEY_ENVIRONMENTS_PER_HOUR = env.whole_number("KEY_ENVIRONMENTS_PER_HOUR", default=10_000, minimum=1, maximum=10_000_000)
KEY_PARKED_PER_HOUR = env.whole_number("KEY_PARKED_PER_HOUR", default=10_000, minimum=1, maximum=10_000_000)
KEY_REFUSALS_PER_DAY = env.whole_number("KEY_REFUSALS_PER_DAY", default=100_000, minimum=1, maximum=10_000_000)
KEY_REFUSAL_BYTES_PER_DAY = env.whole_number(
    "KEY_REFUSAL_BYTES_PER_DAY", default=100_000_000, minimum=100_000, maximum=1 << 40
)
KEY_LOG_BYTES_PER_DAY = env.whole_number(
    "KEY_LOG_BYTES_PER_DAY", default=2_000_000_000, minimum=100_000, maximum=1 << 44
)

# --- How much is taken, and for how long it may wait ----------------------------------------------------------------

INGEST_BODY_BYTES_MAX = env.whole_number("INGEST_BODY_BYTES_MAX", default=20 << 20, minimum=100_000, maximum=1 << 30)
INGEST_BODY_SECONDS = env.seconds("INGEST_BODY_SECONDS", default=10.0, maximum=600.0)
INGEST_CHECKIN_BYTES_MAX = env.whole_number(
    "INGEST_CHECKIN_BYTES_MAX", default=100 << 10, minimum=1_000, maximum=1 << 24
)
INGEST_LOG_BYTES_MAX = env.whole_number("INGEST_LOG_BYTES_MAX", default=100_000, minimum=0, maximum=1 << 24)
INGEST_NESTING_MAX = env.whole_number("INGEST_NESTING_MAX", default=50, minimum=10, maximum=500)
INGEST_ENVELOPE_ITEMS_MAX = env.whole_number("INGEST_ENVELOPE_ITEMS_MAX", default=1_000, minimum=1, maximum=100_000)
INGEST_REST_ITEMS_MAX = env.whole_number("INGEST_REST_ITEMS_MAX", default=1_000, minimum=1, maximum=100_000)
INGEST_BATCH_MAX = env.whole_number("INGEST_BATCH_MAX", default=500, minimum=1, maximum=10_000)
INGEST_PATIENCE_SECONDS = env.seconds("INGEST_PATIENCE_SECONDS", default=0.5, maximum=60.0)
INGEST_QUEUE_MAX = env.whole_number("INGEST_QUEUE_MAX", default=50_000, minimum=100, maximum=10_000_000)
INGEST_QUEUE_BYTES_MAX = env.whole_number("INGEST_QUEUE_BYTES_MAX", default=32 << 20, minimum=1 << 20, maximum=1 << 34)

# --- Notifying people -----------------------------------------------------------------------------------------------

ALERT_EMAIL_TO = env.words("ALERT_EMAIL_TO", default=[])
DEFAULT_FROM_EMAIL = env.text("ALERT_EMAIL_FROM", default="watchclock@localhost")
vars().update(env.email("EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = env.seconds("EMAIL_TIMEOUT_SECONDS", default=10.0, minimum=0.1, maximum=25.0)
EMAIL_CONNECTIONS = env.whole_number("EMAIL_CONNECTIONS", default=4, minimum=1, maximum=50)
REMINDER_HOURS = env.whole_number("REMINDER_HOURS", default=4, minimum=0, maximum=168)
ACKNOWLEDGEMENT_HOURS = env.whole_number("ACKNOWLEDGEMENT_HOURS", default=4, minimum=0, maximum=168)
SECRETS_KEYS = env.fernet_keys("SECRETS_KEYS")
NOTIFY_ALLOWED_NETWORKS = env.networks("NOTIFY_ALLOWED_NETWORKS")
NOTIFY_PER_SECOND = env.whole_number("NOTIFY_PER_SECOND", default=10, minimum=1, maximum=1_000)
NOTIFY_PROXY = env.request_address("NOTIFY_PROXY")
USER_AGENT = f"Watchclock/{VERSION}"

# --- Watching the watchman --------------------------------------------------------------------------------------------

METRICS_TOKEN = env.text("METRICS_TOKEN", default="")
METRICS_OPEN = env.flag("METRICS_OPEN", default=DEBUG)
HEARTBEAT_URL = env.request_address("HEARTBEAT_URL")
_alive_file = env.text("ALIVE_FILE", default="")
ALIVE_FILE = Path(_alive_file) if _alive_file else None

# --- The clock ------------------------------------------------------------------------------------------------------

CLOCK_SHARDS = env.whole_number("CLOCK_SHARDS", default=16, minimum=1, maximum=SHARDS_MAX)
CLOCK_GRACE_SECONDS = env.seconds("CLOCK_GRACE_SECONDS", default=1.0, maximum=30.0)
# A crash and a restart, or a deploy, take less than this; an alert that waits for a dead machine is late by it.
INGEST_NODE_SILENT_SECONDS = env.whole_number("INGEST_NODE_SILENT_SECONDS", default=120, minimum=10, maximum=86_400)
# People say how far the volume may fall; a deviation downwards is negative.
_incident_percent = env.whole_number("VOLUME_INCIDENT_PERCENT", default=30, minimum=1, maximum=100)
VOLUME_RULES = VolumeRules(
    anomaly_percent=-env.whole_number("VOLUME_ANOMALY_PERCENT", default=10, minimum=1, maximum=_incident_percent),
    incident_percent=-_incident_percent,
    decision_window=env.whole_number("VOLUME_DECISION_MINUTES", default=5, minimum=1, maximum=60),
    minimum_expected=env.whole_number("VOLUME_MINIMUM_EXPECTED", default=100, minimum=1, maximum=1_000_000_000),
)
TEST_CLOCK: ClockSpeed | None = None
if _test_clock := env.text("WATCHCLOCK_TEST_CLOCK", default=""):
    if not (DEBUG or env.flag("WATCHCLOCK_ALLOW_TEST_CLOCK", default=False)):
        raise ImproperlyConfigured(
            "WATCHCLOCK_TEST_CLOCK is set, and would make production live in a time of its own. "
            "Unset it; tests also set WATCHCLOCK_ALLOW_TEST_CLOCK=true."
        )
    try:
        TEST_CLOCK = ClockSpeed.parse(_test_clock)
    except ValueError as error:
        raise ImproperlyConfigured(f"WATCHCLOCK_TEST_CLOCK={_test_clock!r}: {error}") from None
_CLOCK_SPEED = TEST_CLOCK.speed if TEST_CLOCK else 1.0

# --- Celery: messages are hints (P3), rows are the work ---------------------------------------------------------------

CELERY_BROKER_URL = env.text("CELERY_BROKER_URL", default=REDIS_URL)
CELERY_TASK_DEFAULT_QUEUE = "clock"
# A queue without a routing key of its own would get every message of the default queue too.
# A mail server that is slow holds the worker of `delivery`, and nothing else. Nothing is sent to `notifications` any
# more; it is declared for command lines and messages of versions before 0.2.
CELERY_TASK_QUEUES = [Queue(name, routing_key=name) for name in ("clock", "housekeeping", "delivery", "notifications")]
CELERY_TASK_ROUTES = {
    "incidents.tasks.deliver": {"queue": "delivery"},
    "incidents.tasks.keep_channels_alive": {"queue": "delivery"},
    "accounts.tasks.send_letter": {"queue": "delivery"},
}
CELERY_TASK_CREATE_MISSING_QUEUES = False  # A mistyped queue is an error, not a queue that nobody reads.
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_ENABLE_UTC = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_DB_REUSE_MAX = 1000  # Tasks on one connection: to open one takes as long as a task. See `project.celery`.
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = True  # They are transactions: nothing is half-done.
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# An unacknowledged message comes again after this many seconds. A task that runs longer meets its own copy, which finds
# the row locked and leaves (P4); a message lost with its worker waits no longer than two ticks.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 120}
# A catch-up after an outage may take minutes, and commits every tick by itself; ten minutes without an end is a hang.
CELERY_TASK_SOFT_TIME_LIMIT = 540
CELERY_TASK_TIME_LIMIT = 600
# A crontab in beat runs in local time and has open bugs around clock changes, hence an interval. `relative` rounds it
# to whole minutes, also after a late run. The task finds out by itself which ticks are due.
CELERY_BEAT_MAX_LOOP_INTERVAL = 5
# When each was last sent is kept in memory: a file could not be written on a full disk, and nobody needs it.
CELERY_BEAT_SCHEDULER = "project.scheduler:SteadyScheduler"
CELERY_BEAT_ENABLE_REMOTE_CONTROL = True  # `celery inspect ping` reaches beat too.
CELERY_BEAT_SCHEDULE = beats.schedule_at(_CLOCK_SPEED, grace_seconds=CLOCK_GRACE_SECONDS)

# --- The admin ------------------------------------------------------------------------------------------------------

DATETIME_FORMAT = "Y-m-d H:i:s T"


def _may_open(view: str) -> Callable[[HttpRequest], bool]:
    """Return whether a person may open a list of the admin; keys are seen with the right to change them only."""
    app, _, model = ("clocktasks_tick" if view == "clock" else view[6:].removesuffix("_changelist")).partition("_")
    rights = ("change",) if model == "ingestkey" else ("view", "change")
    return lambda request: any(request.user.has_perm(f"{app}.{right}_{model}") for right in rights)


UNFOLD = {
    "SITE_TITLE": "Watchclock",
    "SITE_HEADER": "Watchclock",
    "SITE_SYMBOL": "timer",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "sizes": "any", "href": lambda _: static("favicon.svg")}
    ],
    "SCRIPTS": [lambda _: static("monitors/admin.js")],
    "SITE_URL": None,
    "SHOW_HISTORY": True,
    "COLORS": {
        "primary": {
            shade: f"var(--color-blue-{shade})" for shade in ("50", *(str(n) for n in range(100, 1000, 100)), "950")
        }
    },
    "SIDEBAR": {
        "show_search": True,
        "navigation": [
            {
                "title": title,
                "separator": True,
                "items": [
                    {"title": name, "icon": icon, "link": reverse_lazy(view), "permission": _may_open(view)}
                    for name, icon, view in items
                ],
            }
            for title, items in (
                (
                    "What is watched",
                    (
                        ("Monitors", "monitor_heart", "admin:monitors_monitor_changelist"),
                        ("Monitor environments", "dns", "admin:monitors_monitorenvironment_changelist"),
                        ("Environments", "public", "admin:monitors_environment_changelist"),
                        ("Maintenance windows", "construction", "admin:monitors_maintenancewindow_changelist"),
                        ("Projects", "folder", "admin:monitors_project_changelist"),
                        ("Ingest keys", "key", "admin:monitors_ingestkey_changelist"),
                    ),
                ),
                (
                    "What went wrong",
                    (
                        ("Issues", "report", "admin:incidents_issue_changelist"),
                        ("Incidents", "emergency_home", "admin:incidents_incident_changelist"),
                        ("Occurrences", "history", "admin:incidents_occurrence_changelist"),
                        ("Notifications", "mail", "admin:incidents_notification_changelist"),
                        ("Channels", "campaign", "admin:incidents_channel_changelist"),
                        ("Routes", "alt_route", "admin:incidents_route_changelist"),
                        ("Weekly reports", "summarize", "admin:incidents_weeklyreport_changelist"),
                    ),
                ),
                (
                    "What was received",
                    (
                        ("Check-ins", "check_circle", "admin:checkins_checkin_changelist"),
                        ("Waiting check-ins", "pending_actions", "admin:checkins_waitingcheckin_changelist"),
                        ("Processing errors", "error", "admin:checkins_processingerror_changelist"),
                        ("Loss reports", "cloud_off", "admin:checkins_clientlossreport_changelist"),
                        ("Configurations", "tune", "admin:monitors_configsnapshot_changelist"),
                    ),
                ),
                (
                    "The clock",
                    (
                        ("Where the clock is", "timer", "clock"),
                        ("Clock incidents", "hearing_disabled", "admin:clocktasks_clockincident_changelist"),
                        ("Ticks", "schedule", "admin:clocktasks_tick_changelist"),
                        ("Held ticks", "hourglass_top", "admin:clocktasks_heldtick_changelist"),
                        ("Ingest nodes", "sensors", "admin:checkins_ingestnode_changelist"),
                        ("Shard clocks", "avg_pace", "admin:clocktasks_shardclock_changelist"),
                        ("Applied ticks", "playlist_add_check", "admin:clocktasks_appliedtick_changelist"),
                    ),
                ),
                (
                    "People",
                    (
                        ("Users", "person", "admin:auth_user_changelist"),
                        ("Groups", "group", "admin:auth_group_changelist"),
                        ("Audit log", "policy", "admin:audit_auditentry_changelist"),
                    ),
                ),
            )
        ],
    },
}

# --- Logs -----------------------------------------------------------------------------------------------------------

# Configured here and not by Django, which would do it in each process that is forked from one that has done it.
LOGGING_CONFIG = None
logging.config.dictConfig(logs.configuration(logs.log_format()))

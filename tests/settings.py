"""The settings of the test run: the project's own, with what a fresh machine does not have in its environment.

The database and broker addresses are placeholders until `tests/conftest.py` has started the embedded engines.
"""

import os
import sys

# Each worker of the tests, and each of the hundreds of processes that they start, would compile all of it anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

os.environ.setdefault("SECRET_KEY", "the tests' own key, which protects nothing: 5b1d9f0c7a3e48d2")
os.environ.setdefault("DATABASE_URL", "postgres://nobody@127.0.0.1:1/started-by-conftest")
os.environ.setdefault("REDIS_URL", "redis://127.0.0.1:1/0")
os.environ.setdefault("HTTPS_ONLY", "false")
os.environ.setdefault("SECOND_FACTOR_REQUIRED", "false")

from project.settings import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Each of a thousand test clients would search all directories for static files. So a file is searched when it is asked
# for, in the same directories; `tests/project/test_assets.py` does as an instance does.
WHITENOISE_AUTOREFRESH = True

"""Django's cache in Valkey: what all web processes count and remember together, for minutes (shell).

It holds limits of logins, and codes of a second factor that were used already. Values are JSON. While Valkey is away
nothing is remembered and everything is allowed: nobody is locked out by it, and a line in the log reports it.
"""

import json
import logging
from collections.abc import Callable
from typing import Any

import redis
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

from lib.valkey import valkey

logger = logging.getLogger(__name__)


class ValkeyCache(BaseCache):
    """The methods that our libraries call, with the client of REDIS_URL."""

    def __init__(self, _location: str, params: dict[str, Any]) -> None:
        super().__init__(params)

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Store a value unless there is one; returns whether it was stored. True while Valkey is away."""
        name, life = self.make_and_validate_key(key, version=version), self._milliseconds(timeout)
        return bool(self._ask(lambda client: client.set(name, json.dumps(value), nx=True, px=life), away=True))

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """Return a value, or the default."""
        name = self.make_and_validate_key(key, version=version)
        text = self._ask(lambda client: client.get(name), away=None)
        return default if text is None else json.loads(text)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Store a value."""
        name, life = self.make_and_validate_key(key, version=version), self._milliseconds(timeout)
        self._ask(lambda client: client.set(name, json.dumps(value), px=life), away=None)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Forget a value; returns whether there was one."""
        name = self.make_and_validate_key(key, version=version)
        return bool(self._ask(lambda client: client.delete(name), away=False))

    def _milliseconds(self, timeout: Any) -> int | None:
        seconds = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        return None if seconds is None else max(int(seconds * 1000), 1)

    def _ask(self, question: Callable[["redis.Redis"], Any], *, away: Any) -> Any:
        try:
            return question(valkey())
        except redis.RedisError as error:
            logger.warning("Valkey is away (%s): failed logins are not counted", error)
            return away

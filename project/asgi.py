"""What the web serves: check-ins go to a thin application of their own, everything else to Django."""

import logging
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django_application = get_asgi_application()

# Models can be imported only now.
from checkins.batching import Batcher  # noqa: E402
from checkins.ingest import Receive, Scope, Send, ingest, is_ingest_path, make_batcher  # noqa: E402

logger = logging.getLogger(__name__)

_running: list[Batcher] = []


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request, or the life of the process: its batcher runs from the first moment to the last."""
    if scope["type"] == "http" and is_ingest_path(scope["path"]):
        await ingest(_running[0], scope, receive, send)
    elif scope["type"] == "lifespan":
        await _live(receive, send)
    else:
        await django_application(scope, receive, send)


async def _live(receive: Receive, send: Send) -> None:
    await receive()
    batcher = make_batcher()
    try:
        await batcher.start()
    except Exception as error:  # noqa: BLE001 - it is told and ends the process
        logger.critical("check-ins cannot be taken: %s", error)
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        return
    _running.append(batcher)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await batcher.stop()
    _running.remove(batcher)
    await send({"type": "lifespan.shutdown.complete"})

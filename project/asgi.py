"""What the web serves: check-ins and probes go to thin applications of their own, everything else to Django."""

import asyncio
import gc
import logging
import os

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
django_application = get_asgi_application()

# Models can be imported only now.
from checkins.ingest.edge import Receive, Scope, Send, ingest  # noqa: E402
from checkins.ingest.process import BatcherProcess  # noqa: E402
from checkins.ingest.relay import Relay  # noqa: E402
from checkins.ingest.salvage import find_damage  # noqa: E402
from checkins.ingest.wire import RelayError  # noqa: E402
from checkins.protocols.routes import is_ingest_path  # noqa: E402
from dashboard.live import stream  # noqa: E402
from dashboard.live.hub import Hub  # noqa: E402
from dashboard.live.marks import read_mark  # noqa: E402
from health import poller, probes  # noqa: E402
from health.facts import Intake  # noqa: E402
from lib.wallclock import utcnow  # noqa: E402
from project.bodies import with_bounded_body  # noqa: E402

logger = logging.getLogger(__name__)


class Application:
    """The application of one web process, whose check-ins this batcher stores."""

    def __init__(self, batcher: BatcherProcess) -> None:
        self._batcher = batcher
        self._relay: Relay | None = None
        self._streams: stream.Streams | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the life of the process: check-ins are stored from its first moment to its last."""
        if scope["type"] == "http" and is_ingest_path(scope["path"]):
            assert self._relay is not None, "requests come after the start"
            await ingest(self._relay, scope, receive, send)
        elif scope["type"] == "http" and scope["path"] in probes.PATHS:
            await probes.answer_probe(poller.running, scope, send)
        elif scope["type"] == "http" and scope["path"] == stream.PATH:
            assert self._streams is not None, "requests come after the start"
            await self._streams.answer(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await with_bounded_body(
                django_application, scope, receive, send, bytes_max=settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            )

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        relay = Relay(self._batcher, held_bytes_max=settings.INGEST_QUEUE_BYTES_MAX)
        try:
            await relay.start()
        except RelayError as error:
            logger.critical("check-ins cannot be taken: %s", error)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        gc.freeze()  # What is there now stays: no need to look through it again and again.
        self._relay = relay
        self._streams = stream.Streams(Hub(read_mark))
        poller.running = poller.Poller(intake=lambda: _intake(relay), utcnow=utcnow)
        polling = asyncio.create_task(poller.running.run())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        polling.cancel()
        poller.running.stop()
        await self._streams.stop()
        await relay.stop()
        await send({"type": "lifespan.shutdown.complete"})


def _intake(relay: Relay) -> Intake:
    return Intake(
        is_direct=relay.state.is_direct,
        spooled_count=relay.state.spooled_count,
        spool_bytes=relay.state.spool_bytes,
        spool_bytes_max=settings.SPOOL_BYTES_MAX,
        is_refusing=relay.state.is_refusing,
        is_silent=relay.is_silent,
        free_bytes=poller.free_bytes(),
        damage=find_damage(settings.SPOOL_DIRECTORY),
    )

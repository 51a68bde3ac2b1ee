"""The web page as an output of the camera: a server in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from aiohttp import web

from slimcam.deploy.camera.web.api import BODY_BYTES, Api, Enroll, Gallery, People
from slimcam.deploy.camera.web.config import WebConfig
from slimcam.deploy.camera.web.guard import Connection, Guard, add_headers
from slimcam.deploy.camera.web.naming import Naming
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.types import Event, Notice, View

EVENTS = 100
CONNECTIONS = 64
"""At once; more are closed without an answer."""

REQUEST_SECONDS = 15.0
"""A connection that has not sent a whole request's head in so long is closed."""

_STATIC = Path(__file__).parent / "static"
_TYPES = {
    "index.html": "text/html",
    "app.js": "text/javascript",
    "chart.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}


class Web:
    """Serves the page until it is closed. `show` only takes note: pictures are drawn when somebody watches.

    Args:
        config: Options of the page, with a port.
        open_gallery: Opens the gallery, in the thread that uses it, each time; `None` where there is none.
        enroll: Enrolls a face, in the same thread.
        source_state: A word or two about the source, without credentials; called often.
        update: Gives the state of updates; `None` where there are none.
        unknown: Faces that are kept to be named; `None` where none are.

    Raises:
        ValueError: there is no port, or no token where one is needed.
        OSError: the port is taken, or the address is none of this machine.
    """

    def __init__(
        self,
        config: WebConfig,
        open_gallery: Callable[[], Gallery | None],
        enroll: Enroll,
        source_state: Callable[[], str],
        update: Callable[[], UpdateStatus] | None = None,
        unknown: Naming | None = None,
    ) -> None:
        if config.port is None:
            raise ValueError("web.port is null: there is no page to serve")
        self._host = config.host
        guard = Guard(config)
        self._pictures = ThreadPoolExecutor(1, "web-pictures")
        self._gallery = ThreadPoolExecutor(1, "web-gallery")
        self._people = People(self._gallery, open_gallery, enroll)
        self._api = Api(config, guard, self._people, source_state, self._pictures, update, unknown)
        # From the time of the start on, so that a page that stays open over a restart knows what is new.
        self._events, self._connections = int(1000 * time.time()), 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="web", daemon=True)
        self._thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self._start(config.port, guard), self._loop).result()
        except OSError as error:
            self._end()
            reason = error.strerror or str(error)
            raise OSError(
                f"the web page cannot be served at {config.host} port {config.port} ({reason}); choose another web.port"
            ) from error

    @property
    def url(self) -> str:
        """Of the page."""
        host = socket.gethostname() if self._host in ("0.0.0.0", "::") else self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def watchers(self) -> int:
        """Live views that are open."""
        return self._api.watchers

    def show(self, view: View) -> None:
        """See `Output`."""
        api = self._api
        api.latencies.add(view)
        api.view = view
        self._add(view.events)

    def notice(self, notice: Notice) -> None:
        """See `Output`."""
        api = self._api
        self._add(notice.events)
        api.source = notice.source
        if api.view is not None and api.view.sightings != notice.sightings:
            api.view = replace(api.view, sightings=notice.sightings)

    def _add(self, events: Sequence[Event]) -> None:
        if events:
            numbered = tuple(enumerate(events, self._events + 1))
            self._events += len(numbered)
            self._api.events = (self._api.events + numbered)[-EVENTS:]

    def close(self) -> None:
        """Ends the server: live views end, requests under way have a second."""
        if self._loop.is_closed():
            return
        self._api.closing = True
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._end()

    async def _start(self, port: int, guard: Guard) -> None:
        application = web.Application(middlewares=[guard.middleware], client_max_size=BODY_BYTES)
        application.on_response_prepare.append(add_headers)
        application.add_routes([*self._api.routes(), *_page()])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None

        def connection() -> asyncio.BaseProtocol:
            # Counted here: the server itself knows of those that came together only when all are let in.
            if self._connections >= CONNECTIONS:
                return _Refused()
            self._connections += 1
            return Connection(
                server,
                self._disconnected,
                loop=self._loop,
                access_log=None,
                keepalive_timeout=REQUEST_SECONDS,
                lingering_time=2.0,
                auto_decompress=False,
            )

        self._server = await self._loop.create_server(connection, self._host, port)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def _disconnected(self) -> None:
        self._connections -= 1

    async def _stop(self) -> None:
        self._server.close()
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._pictures.shutdown()
        self._gallery.shutdown()


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _page() -> list[web.RouteDef]:
    """The files of the page, read once."""

    def served(name: str) -> web.RouteDef:
        content, kind = (_STATIC / name).read_bytes(), _TYPES[name]
        charset = None if name.endswith(".svg") else "utf-8"

        async def handler(_request: web.Request) -> web.Response:
            return web.Response(body=content, content_type=kind, charset=charset)

        return web.get("/" if name == "index.html" else f"/{name}", handler)

    return [served(name) for name in _TYPES]

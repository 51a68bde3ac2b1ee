"""What the page asks the camera for, under /api/. Answers are JSON; refusals are `{"error": "one line"}`.

GET    state                what is seen, how fast, and what happened; see `state_record`
GET    live.mjpg            the live view, a JPEG after the other (multipart/x-mixed-replace)
POST   snapshots            keeps the view still -> snapshot, width, height, faces with track and box
GET    snapshots/NAME.jpg   the picture of it
GET    people               who is enrolled
POST   people               {snapshot, track, name, consent} enrolls a face of a snapshot -> the person
DELETE people/ID            forgets a person
POST   login                {token} -> a cookie
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import closing
from typing import Any, Protocol, TypeVar

from aiohttp import web

from deploy.camera.outputs.lines import as_json, clean, event_record, frame_record
from deploy.camera.rolling_latency import Latencies
from deploy.camera.web.config import WebConfig
from deploy.camera.web.guard import Guard, refuse
from deploy.camera.web.pictures import SNAPSHOT_SECONDS, Snapshots, live_jpeg, still_jpeg, still_record
from deploy.common.errors import GalleryError, UnknownPersonError
from deploy.gallery.people import Person
from deploy.ota.device.status import UpdateStatus
from deploy.types import Event, SourceStatus, View

BODY_BYTES = 16 * 1024
BODY_SECONDS = 10.0
WATCHERS = 8
"""Live views at once."""
WATCHER_SECONDS = 10.0
"""A watcher who does not take a picture for so long is let go."""

_TEXT_LENGTH = 1000
_BOUNDARY = "slimcam-frame"
_PART = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
"""Begins a part, and is sent along with the one before: Chromium shows a part when the head of the next has come.

So the parts can have no Content-Length, which readers do not need."""

T = TypeVar("T")


class Gallery(Protocol):
    """What the page needs of `deploy.gallery.gallery.Gallery`."""

    def people(self) -> Sequence[Person]: ...

    def forget(self, person: str, /) -> object:
        """
        Raises:
            UnknownPersonError: there is no such person.
        """

    def close(self) -> None: ...


Enroll = Callable[[View, int, str, str], Person]
"""Enrolls the face of a track in a view under a name, with a note on consent; a ValueError says why not."""


class People:
    """The gallery, in a thread of its own, since it may wait for a disk; opened each time, since it may be replaced.

    Args:
        open_gallery: `None` where there is none yet.
    """

    def __init__(self, executor: Executor, open_gallery: Callable[[], Gallery | None], enroll: Enroll) -> None:
        self._executor, self._open, self._enroll = executor, open_gallery, enroll

    async def list(self) -> list[dict[str, Any]]:
        def people() -> Sequence[Person]:
            gallery = self._open()
            if gallery is None:
                return ()
            with closing(gallery):
                return gallery.people()

        return [person_record(person) for person in await self._run(people)]

    async def forget(self, person: str) -> None:
        def forget() -> None:
            gallery = self._open()
            if gallery is None:
                raise UnknownPersonError("there is no such person")
            with closing(gallery):
                gallery.forget(person)

        await self._run(forget, refused=404)

    async def enroll(self, view: View, track: int, name: str, consent: str) -> dict[str, Any]:
        return person_record(await self._run(lambda: self._enroll(view, track, name, consent), refused=422))

    async def _run(self, step: Callable[[], T], refused: int = 503) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, step)
        except GalleryError as error:
            # The gallery is at fault, not what was asked for.
            refuse(503, str(error))
        except ValueError as error:
            refuse(refused, str(error))
        except (OSError, RuntimeError) as error:
            refuse(503, str(error))


class Api:
    """The handlers. All run on the server's event loop; `view` is set by the camera's thread.

    Args:
        source_state: A word or two about the source, without credentials.
        pictures: Executor for JPEGs, which take milliseconds.
        update: Gives the state of updates; `None` where there are none.
    """

    def __init__(
        self,
        config: WebConfig,
        guard: Guard,
        people: People,
        source_state: Callable[[], str],
        pictures: Executor,
        update: Callable[[], UpdateStatus] | None = None,
    ) -> None:
        self._update = update
        self._config, self._guard, self._people = config, guard, people
        self._source_state, self._pictures = source_state, pictures
        self._snapshots = Snapshots()
        self.watchers = 0
        # The picture that all watchers get: when it was begun, of which view, and the JPEG to come.
        self._live: tuple[float, View, asyncio.Future[bytes]] | None = None
        self.view: View | None = None
        self.events: tuple[tuple[int, Event], ...] = ()
        self.latencies = Latencies()
        self.source: SourceStatus | None = None
        self.closing = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/state", self.state),
            web.get("/api/live.mjpg", self.live, allow_head=False),
            web.post("/api/snapshots", self.keep),
            web.get("/api/snapshots/{name:[A-Za-z0-9_-]{1,64}}.jpg", self.still),
            web.get("/api/people", self.people),
            web.post("/api/people", self.enroll),
            web.delete("/api/people/{id:[A-Za-z0-9_-]{1,64}}", self.forget),
            web.post("/api/login", self.login),
        ]

    async def state(self, _request: web.Request) -> web.Response:
        record = state_record(self.view, self.events, self.latencies, time.monotonic())
        source = None if self.source is None else source_record(self.source)
        update = None
        if self._update is not None:
            status = self._update()
            update = {**status.record(), "error": clean(status.error)}
        return _json({"source": clean(self._source_state()), "source_state": source, "update": update, **record})

    async def live(self, request: web.Request) -> web.StreamResponse:
        if self.watchers >= WATCHERS:
            refuse(503, f"{WATCHERS} live views are open already; close one")
        self.watchers += 1
        try:
            return await self._stream(request)
        finally:
            self.watchers -= 1

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_type = "multipart/x-mixed-replace"
        response.headers["Content-Type"] += f"; boundary={_BOUNDARY}"
        await response.prepare(request)
        shown: View | None = None
        try:
            await response.write(_PART)
            while not self.closing and request.transport is not None and not request.transport.is_closing():
                view, picture = self._picture()
                if picture is not None and view is not shown:
                    # One watcher who leaves must not cancel the picture of the others.
                    content = await asyncio.shield(picture)
                    await asyncio.wait_for(response.write(content + b"\r\n" + _PART), WATCHER_SECONDS)
                    shown = view
                await asyncio.sleep(1 / self._config.fps)
        except asyncio.TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except ConnectionError:
            pass
        return response

    def _picture(self) -> tuple[View | None, asyncio.Future[bytes] | None]:
        """The live view, drawn and encoded once for all watchers, `fps` times a second at most."""
        now = time.monotonic()
        if self.view is not None and (
            self._live is None or (self.view is not self._live[1] and now >= self._live[0] + 0.9 / self._config.fps)
        ):
            work = asyncio.get_running_loop().run_in_executor(
                self._pictures, live_jpeg, self.view, self._config.width, self._config.quality
            )
            self._live = now, self.view, work
        return (None, None) if self._live is None else self._live[1:]

    async def keep(self, _request: web.Request) -> web.Response:
        view, now = self.view, time.monotonic()
        if self.watchers and self._live is not None and now - self._live[0] < 1:
            view = self._live[1]  # the one that was looked at
        if view is None:
            refuse(409, "the camera has not seen anything yet; try again when there is a picture")
        name = self._snapshots.add(view, now)
        asyncio.get_running_loop().call_later(SNAPSHOT_SECONDS + 0.1, lambda: self._snapshots.expire(time.monotonic()))
        return _json(still_record(name, view), 201)

    async def still(self, request: web.Request) -> web.Response:
        view = self._snapshot(request.match_info["name"])
        content = await asyncio.get_running_loop().run_in_executor(self._pictures, still_jpeg, view)
        return web.Response(body=content, content_type="image/jpeg")

    async def people(self, _request: web.Request) -> web.Response:
        return _json({"people": await self._people.list()})

    async def enroll(self, request: web.Request) -> web.Response:
        body = await read_body(request, {"snapshot": str, "track": int, "name": str, "consent": str})
        view = self._snapshot(body["snapshot"])
        if all(sighting.track != body["track"] for sighting in view.sightings):
            refuse(404, "there is no such face in that snapshot")
        person = await self._people.enroll(view, body["track"], body["name"], body["consent"])
        self._snapshots.remove(body["snapshot"])
        return _json(person, 201)

    async def forget(self, request: web.Request) -> web.Response:
        await self._people.forget(request.match_info["id"])
        return web.Response(status=204)

    async def login(self, request: web.Request) -> web.Response:
        body = await read_body(request, {"token": str})
        return self._guard.login(request, body["token"])

    def _snapshot(self, name: str) -> View:
        view = self._snapshots.get(name, time.monotonic())
        if view is None:
            refuse(404, "that snapshot is gone; take a new one")
        return view


def state_record(
    view: View | None, events: Sequence[tuple[int, Event]], latencies: Latencies, now: float
) -> dict[str, Any]:
    """What the page shows of a camera.

    Returns:
        `frame` (null before the first, else `deploy.camera.outputs.lines.frame_record` with `width`, `height` and
        `age`, s), `fps`, `frames` and `lost` (ever), `window` (s), `stages` and `history` (`Latencies.summary` and
        `history`), `events` (newest first; `deploy.camera.outputs.lines.event_record` with `number`, ascending).
    """
    frame: dict[str, Any] | None = None
    if view is not None:
        height, width = view.frame.image.shape[:2]
        age = round(max(now - view.frame.captured, 0.0), 3)
        frame = {**frame_record(view), "width": width, "height": height, "age": age}
    return {
        "frame": frame,
        "fps": round(latencies.rate(now), 2),
        "frames": latencies.frames,
        "lost": latencies.lost,
        "window": latencies.seconds,
        "stages": latencies.summary(now),
        "history": latencies.history(now),
        "events": [{"number": number, **event_record(event)} for number, event in reversed(events)],
    }


def source_record(status: SourceStatus) -> dict[str, Any]:
    """The state of the source: `state`, `since` (Unix time) and `kind`, see `deploy.types.SourceStatus`."""
    return {"state": status.state, "since": round(status.since, 3), "kind": status.kind}


def person_record(person: Person) -> dict[str, Any]:
    record = {name: getattr(person, name) for name in ("id", "name", "templates", "created", "expires", "consent")}
    return {**record, "name": clean(person.name), "consent": clean(person.consent)}


async def read_body(request: web.Request, fields: dict[str, type]) -> dict[str, Any]:
    """A JSON object with just these fields, each of its type; texts have no halves of surrogate pairs."""
    if request.content_type != "application/json":
        refuse(415, "send JSON, as application/json")
    try:
        content = await asyncio.wait_for(request.read(), BODY_SECONDS)
    except asyncio.TimeoutError:
        refuse(408, f"the request did not arrive within {BODY_SECONDS:.0f} s")
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        refuse(400, "the request is not JSON")
    if not isinstance(body, dict) or set(body) != set(fields):
        refuse(400, f"the request must be an object with {', '.join(fields)}")
    for name, kind in fields.items():
        value = body[name]
        if type(value) is not kind:
            refuse(400, f"{name} must be {'a text' if kind is str else 'an integer'}")
        if isinstance(value, str) and (len(value) > _TEXT_LENGTH or clean(value) != value):
            refuse(400, f"{name} must be Unicode text of {_TEXT_LENGTH} characters at most")
    return body


def _json(record: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=as_json(record), status=status, content_type="application/json")

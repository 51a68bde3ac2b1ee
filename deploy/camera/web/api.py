"""What the page asks the camera for, under /api/. Answers are JSON; refusals are `{"error": "one line"}`.

GET    state                what is seen, how fast, and what happened; see `state_record`
GET    live.mjpg            the live view, a JPEG after the other (multipart/x-mixed-replace)
POST   snapshots            keeps the view still -> snapshot, width, height, faces with track and box
GET    snapshots/NAME.jpg   the picture of it
GET    people               who is enrolled
POST   people               {snapshot, track, name, consent} enrolls a face of a snapshot -> the person. 409 with
                            `looks_like` if it looks like others: then again, with `person`, one of their ids or `new`
PATCH  people/ID            {name} or {expires} (Unix time or null) -> the person
DELETE people/ID            forgets a person
POST   people/ID/merge      {into} moves all templates to another person -> the other one
GET    people/ID/templates  where each template is from
DELETE people/ID/templates/N  removes one, N from 1 -> the person
GET    unknown              faces that were kept as unknown, in groups by likeness; 404 where none are kept
GET    unknown/ID.png       one of them
POST   unknown              {faces, name, consent, person} enrolls them as people do -> the person
DELETE unknown/ID           deletes one
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

from slimcam.deploy.camera.known_people import LooksLike
from slimcam.deploy.camera.outputs.lines import as_json, clean, event_record, frame_record
from slimcam.deploy.camera.rolling_latency import Latencies
from slimcam.deploy.camera.web.config import WebConfig
from slimcam.deploy.camera.web.guard import Guard, refuse
from slimcam.deploy.camera.web.naming import Naming
from slimcam.deploy.camera.web.pictures import SNAPSHOT_SECONDS, Snapshots, live_jpeg, still_jpeg, still_record
from slimcam.deploy.common.errors import GalleryError, UnknownPersonError
from slimcam.deploy.gallery.people import Person, Template
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.types import Event, SourceStatus, View

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

FACES_AT_ONCE = 100
"""Faces that are named with one request."""

_KINDS = {str: "a text", int: "an integer", list: "a list"}

T = TypeVar("T")


class Gallery(Protocol):
    """What the page needs of `slimcam.deploy.gallery.gallery.Gallery`."""

    def people(self) -> Sequence[Person]: ...

    def forget(self, person: str, /) -> object:
        """
        Raises:
            UnknownPersonError: there is no such person.
        """

    def rename(self, person: str, name: str, /) -> Person: ...

    def expire(self, person: str, expires: float | None, /) -> Person: ...

    def merge(self, person: str, into: str, /) -> Person: ...

    def remove_template(self, person: str, number: int, /) -> Person: ...

    def templates(self, person: str, /) -> Sequence[Template]: ...

    def close(self) -> None: ...


Enroll = Callable[[View, int, str, str, str], Person]
"""Enrolls the face of a track in a view under a name, with a note on consent, for a person's id, `new` or nothing; see
`slimcam.deploy.camera.known_people`. A ValueError says why not."""


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

        return [person_record(person) for person in await self.run(people)]

    async def forget(self, person: str) -> None:
        await self.change(lambda gallery: gallery.forget(person))

    async def change(self, step: Callable[[Gallery], T]) -> T:
        """Does something with the gallery; 404 where nobody has the id."""

        def changed() -> T:
            gallery = self._open()
            if gallery is None:
                raise UnknownPersonError("there is no such person")
            with closing(gallery):
                return step(gallery)

        return await self.run(changed, refused=422)

    async def enroll(self, view: View, track: int, name: str, consent: str, person: str) -> dict[str, Any]:
        return person_record(await self.run(lambda: self._enroll(view, track, name, consent, person), refused=422))

    async def run(self, step: Callable[[], T], refused: int = 503) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, step)
        except GalleryError as error:
            # The gallery is at fault, not what was asked for.
            refuse(503, str(error))
        except UnknownPersonError as error:
            refuse(404, str(error))
        except LooksLike as error:
            people = [{"id": one.id, "name": clean(one.name), "score": round(score, 4)} for one, score in error.people]
            refuse(409, str(error), {"looks_like": people})
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
        unknown: Faces that are kept to be named; `None` where none are.
    """

    def __init__(
        self,
        config: WebConfig,
        guard: Guard,
        people: People,
        source_state: Callable[[], str],
        pictures: Executor,
        update: Callable[[], UpdateStatus] | None = None,
        unknown: Naming | None = None,
    ) -> None:
        self._update = update
        self._config, self._guard, self._people = config, guard, people
        self._source_state, self._pictures = source_state, pictures
        self._unknown = unknown
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
            web.patch("/api/people/{id:[A-Za-z0-9_-]{1,64}}", self.correct),
            web.post("/api/people/{id:[A-Za-z0-9_-]{1,64}}/merge", self.merge),
            web.get("/api/people/{id:[A-Za-z0-9_-]{1,64}}/templates", self.templates),
            web.delete("/api/people/{id:[A-Za-z0-9_-]{1,64}}/templates/{number:[0-9]{1,6}}", self.remove_template),
            web.get("/api/unknown", self.unknown),
            web.get("/api/unknown/{id:[0-9a-f]{32}}.png", self.unknown_picture),
            web.post("/api/unknown", self.name_unknown),
            web.delete("/api/unknown/{id:[0-9a-f]{32}}", self.remove_unknown),
            web.post("/api/login", self.login),
        ]

    async def state(self, _request: web.Request) -> web.Response:
        record = state_record(self.view, self.events, self.latencies, time.monotonic())
        source = None if self.source is None else source_record(self.source)
        update = None
        if self._update is not None:
            status = self._update()
            update = {**status.record(), "error": clean(status.error)}
        return _json(
            {
                "source": clean(self._source_state()),
                "source_state": source,
                "update": update,
                "unknown": self._unknown is not None,
                **record,
            }
        )

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
        fields = {"snapshot": str, "track": int, "name": str, "consent": str}
        body = {"person": "", **await read_body(request, fields, {"person": str})}
        view = self._snapshot(body["snapshot"])
        if all(sighting.track != body["track"] for sighting in view.sightings):
            refuse(404, "there is no such face in that snapshot")
        person = await self._people.enroll(view, body["track"], body["name"], body["consent"], body["person"])
        self._snapshots.remove(body["snapshot"])
        return _json(person, 201)

    async def forget(self, request: web.Request) -> web.Response:
        await self._people.forget(request.match_info["id"])
        return web.Response(status=204)

    async def correct(self, request: web.Request) -> web.Response:
        body = await read_body(request, {}, {"name": str, "expires": (int, float, type(None))})
        id = request.match_info["id"]

        def corrected(gallery: Gallery) -> Person:
            person = gallery.rename(id, body["name"]) if "name" in body else None
            person = gallery.expire(id, body["expires"]) if "expires" in body else person
            if person is None:
                raise ValueError("give a name or a time of expiry")
            return person

        return _json(person_record(await self._people.change(corrected)))

    async def merge(self, request: web.Request) -> web.Response:
        body, id = await read_body(request, {"into": str}), request.match_info["id"]
        return _json(person_record(await self._people.change(lambda gallery: gallery.merge(id, body["into"]))))

    async def templates(self, request: web.Request) -> web.Response:
        id = request.match_info["id"]
        found = await self._people.change(lambda gallery: gallery.templates(id))
        return _json({"templates": [clean(template.source) for template in found]})

    async def remove_template(self, request: web.Request) -> web.Response:
        id, number = request.match_info["id"], int(request.match_info["number"])
        return _json(person_record(await self._people.change(lambda gallery: gallery.remove_template(id, number))))

    async def unknown(self, _request: web.Request) -> web.Response:
        naming = self._naming()
        return _json({"groups": await self._people.run(naming.groups)})

    async def unknown_picture(self, request: web.Request) -> web.Response:
        naming, id = self._naming(), request.match_info["id"]
        content = await self._people.run(lambda: naming.picture(id), refused=404)
        return web.Response(body=content, content_type="image/png")

    async def name_unknown(self, request: web.Request) -> web.Response:
        naming = self._naming()
        body = await read_body(request, {"faces": list, "name": str, "consent": str, "person": str})
        faces = body["faces"]
        if not 1 <= len(faces) <= FACES_AT_ONCE or not all(isinstance(face, str) for face in faces):
            refuse(400, f"faces must be a list of 1 to {FACES_AT_ONCE} ids")
        words = body["name"], body["consent"], body["person"]
        return _json(person_record(await self._people.run(lambda: naming.enroll(faces, *words), refused=422)), 201)

    async def remove_unknown(self, request: web.Request) -> web.Response:
        naming, id = self._naming(), request.match_info["id"]
        await self._people.run(lambda: naming.remove([id]))
        return web.Response(status=204)

    def _naming(self) -> Naming:
        if self._unknown is None:
            refuse(404, "unknown faces are not kept; start the camera with unknown.keep=true")
        return self._unknown

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
        `frame` (null before the first, else `slimcam.deploy.camera.outputs.lines.frame_record` with `width`, `height`
        and `age`, s), `fps`, `frames` and `lost` (ever), `window` (s), `stages` and `history` (`Latencies.summary` and
        `history`), `events` (newest first; `slimcam.deploy.camera.outputs.lines.event_record` with `number`,
        ascending).
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
    """The state of the source: `state`, `since` (Unix time) and `kind`, see `slimcam.deploy.types.SourceStatus`."""
    return {"state": status.state, "since": round(status.since, 3), "kind": status.kind}


def person_record(person: Person) -> dict[str, Any]:
    record = {name: getattr(person, name) for name in ("id", "name", "templates", "created", "expires", "consent")}
    return {**record, "name": clean(person.name), "consent": clean(person.consent)}


async def read_body(request: web.Request, fields: dict[str, Any], more: dict[str, Any] | None = None) -> dict[str, Any]:
    """A JSON object with just these fields, each of its type; texts have no halves of surrogate pairs.

    Args:
        fields: Names and types of what must be there.
        more: Those of what may be there.
    """
    more = more or {}
    if request.content_type != "application/json":
        refuse(415, "send JSON, as application/json")
    try:
        content = await asyncio.wait_for(request.read(), BODY_SECONDS)
    except asyncio.TimeoutError:
        refuse(408, f"the request did not arrive within {BODY_SECONDS:.0f} s")
    except ConnectionError:
        refuse(400, "the request broke off")  # nobody reads it; it is no failure of ours, and not to be logged as one
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        refuse(400, "the request is not JSON")
    if not isinstance(body, dict) or not set(fields) <= set(body) <= {*fields, *more}:
        refuse(400, f"the request must be an object with {', '.join([*fields, *more])}")
    for name, value in body.items():
        kind = {**fields, **more}[name]
        if type(value) not in (kind if isinstance(kind, tuple) else (kind,)):
            refuse(400, f"{name} must be {_KINDS.get(kind, 'a number or null')}")
        if isinstance(value, str) and (len(value) > _TEXT_LENGTH or clean(value) != value):
            refuse(400, f"{name} must be Unicode text of {_TEXT_LENGTH} characters at most")
    return body


def _json(record: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=as_json(record), status=status, content_type="application/json")

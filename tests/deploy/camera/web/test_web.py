"""The page's server over real HTTP. SLIMCAM_HOSTILE=1000 sends so many hostile requests; the default is 100."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import os
import random
import socket
import string
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import numpy as np
import pytest

from slimcam.deploy.camera.web import api, pictures, server
from slimcam.deploy.camera.web.config import TOKEN_VARIABLE, WebConfig, access_token
from slimcam.deploy.camera.web.guard import Failures
from slimcam.deploy.camera.web.pictures import SNAPSHOT_SECONDS, SNAPSHOTS, Snapshots
from slimcam.deploy.camera.web.server import Web
from slimcam.deploy.gallery.gallery import Gallery
from slimcam.deploy.gallery.people import Person, Template
from slimcam.deploy.types import STAGES, Event, Frame, Identity, Sighting, View
from slimcam.deploy.vision.align import TEMPLATE

TOKEN = "correct-horse-battery-staple"
MARK = {"X-Slimcam": "1"}


def view(number: int = 0, tracks: tuple[int, ...] = (1, 2), events: tuple[Event, ...] = (), lost: int = 0) -> View:
    image = np.random.default_rng(number).integers(0, 256, (180, 320, 3), dtype=np.uint8)
    image[:] = image[:1, :1]
    sightings = tuple(
        Sighting(track, (TEMPLATE / 2 + (100 * i + 20, 40)).astype(np.float32), 0.9, ("small",) * i, None)
        for i, track in enumerate(tracks)
    )
    return View(Frame(image, number, number / 10, time.monotonic() - 0.01, lost), sightings, events, {"result": 12.0})


class House:
    """A gallery in a folder, and which threads opened, used and closed it."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.enrolled: list[tuple[int, int]] = []
        self.threads: set[int] = set()
        self.opened = self.closed = 0
        self.fault: Exception | None = None

    def gallery(self) -> Gallery:
        self.threads.add(threading.get_ident())
        if self.fault is not None:
            raise self.fault
        if self.folder is None:
            raise OSError("there is no gallery")
        self.opened += 1
        return Watched(self)

    def enroll(self, seen: View, track: int, name: str, consent: str, person: str = "") -> Person:
        self.threads.add(threading.get_ident())
        with Gallery(*self.place) as gallery:
            person = gallery.enroll(name, [Template(np.eye(8, dtype=np.float32)[0], None, "page")], consent=consent)
        self.enrolled.append((seen.frame.number, track))
        return person

    @property
    def known(self) -> list[Person]:
        with Gallery(*self.place) as gallery:
            return gallery.people()

    @property
    def place(self) -> tuple[Path, str, int, Path]:
        assert self.folder is not None
        for name in ("people", "keys"):
            (self.folder / name).mkdir(exist_ok=True)
        return self.folder / "people" / "gallery.db", "0" * 64, 8, self.folder / "keys" / "key"


class Watched(Gallery):
    def __init__(self, house: House) -> None:
        super().__init__(*house.place)
        self.house = house

    def people(self) -> list[Person]:
        self.house.threads.add(threading.get_ident())
        return super().people()

    def close(self) -> None:
        self.house.threads.add(threading.get_ident())
        self.house.closed += 1
        super().close()


@contextmanager
def served(house: House | None = None, **options: Any) -> Iterator[Web]:
    house = house or House()
    page = Web(WebConfig(**{"port": 0, **options}), house.gallery, house.enroll, lambda: "clip.mp4")
    try:
        yield page
    finally:
        page.close()


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture
def page(house: House) -> Iterator[Web]:
    with served(house) as page:
        yield page


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(page: Web, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
    """A request as the page makes it; `headers` change it, and None leaves one out."""
    sent: dict[str, Any] = {"X-Slimcam": "1", **({"Content-Type": "application/json"} if body is not None else {})}
    sent.update(headers or {})
    connection = HTTPConnection("127.0.0.1", page.port, timeout=10)
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, content, {name: value for name, value in sent.items() if value is not None})
    response: HTTPResponse = connection.getresponse()
    answer = Answer(response.status, response.read(), dict(response.getheaders()))
    connection.close()
    return answer


def refusal(answer: Answer, status: int) -> str:
    assert answer.status == status, answer
    assert set(answer.json) == {"error"}
    line = answer.json["error"]
    assert line
    assert "\n" not in line
    return str(line)


def until(condition: Callable[[], Any], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


# The page and its state


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/chart.js", "text/javascript"),
        ("/style.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_the_page_is_whole_and_locked_up(page: Web, path: str, kind: str) -> None:
    answer = ask(page, "GET", path)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith(kind)
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    text = answer.body.decode().replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in text
    assert "https://" not in text
    assert "innerHTML" not in text


def test_before_the_first_frame_there_is_a_state_already(page: Web) -> None:
    state = ask(page, "GET", "/api/state").json
    assert (state["source"], state["frame"], state["fps"], state["lost"], state["events"]) == (
        "clip.mp4",
        None,
        0,
        0,
        [],
    )
    assert "try again" in refusal(ask(page, "POST", "/api/snapshots"), 409)


def test_the_state_says_what_is_seen_and_how_fast(page: Web) -> None:
    ada = Identity("p1", "Ada", np.float32(0.7), float("nan"))
    for number in range(20):
        spent = dict(zip(STAGES, np.arange(6, dtype=np.float32) + number, strict=True))
        page.show(replace(view(number, lost=number % 2), milliseconds=spent))
    seen = view(20)
    page.show(replace(seen, sightings=(replace(seen.sightings[0], identity=ada), seen.sightings[1])))
    state = ask(page, "GET", "/api/state").json
    assert list(state["stages"]) == list(STAGES)
    assert state["stages"]["detect"] == {"p50": 9.5, "p90": 17.1, "p99": 18.81, "count": 20}
    assert (state["frames"], state["lost"], state["window"]) == (21, 10, 60)
    assert state["history"]
    frame = state["frame"]
    assert (frame["frame"], frame["width"], frame["height"]) == (20, 320, 180)
    assert 0.01 <= frame["age"] < 5
    assert frame["faces"][0]["identity"] == {"person": "p1", "name": "Ada", "score": 0.7, "margin": None}
    assert (frame["faces"][1]["track"], frame["faces"][1]["flaws"]) == (2, ["small"])


def test_the_latest_events_are_kept_and_numbered(page: Web) -> None:
    for i in range(70):
        pair = tuple(Event("appeared", track, None, float(i), 1.7e9) for track in (2 * i + 1, 2 * i + 2))
        page.show(view(i, events=pair))
    events = ask(page, "GET", "/api/state").json["events"]
    assert [event["number"] for event in events] == list(range(events[-1]["number"] + 99, events[-1]["number"] - 1, -1))
    assert events[-1]["number"] > 1000 * (time.time() - 60)  # they go on over restarts
    assert (events[0]["track"], events[0]["name"]) == (140, None)


# The live view


def parts(page: Web, count: int, headers: dict[str, str] | None = None) -> list[np.ndarray]:
    """So many pictures of the live view, RGB."""

    async def read() -> list[np.ndarray]:
        async with (
            aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(10)) as session,
            session.get(f"{page.url}api/live.mjpg") as response,
        ):
            assert response.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=slimcam-frame"
            found, content = [], b""
            while len(found) < count:
                content += await response.content.readany()
                if response.content.at_eof():
                    raise EOFError
                *whole, content = content.split(b"--slimcam-frame\r\n")
                found += [part for part in whole if part]
        pictures = []
        for part in found:
            head, _, jpeg = part.partition(b"\r\n\r\n")
            assert head == b"Content-Type: image/jpeg"
            pictures.append(cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1), cv2.COLOR_BGR2RGB))
        return pictures

    return asyncio.run(read())


@contextmanager
def running(page: Web, seconds: float = 0.02) -> Iterator[None]:
    stop = threading.Event()

    def run() -> None:
        number = 0
        while not stop.wait(seconds):
            page.show(view(number))
            number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_the_live_view_shows_frame_after_frame_with_the_faces_drawn() -> None:
    with served(fps=30, width=160) as page, running(page):
        first, *_, last = parts(page, 4)
    assert first.shape == last.shape == (90, 160, 3)
    assert np.abs(first[0, 0].astype(int) - last[0, 0]).max() > 5
    assert (np.abs(last.astype(int) - last[0, 0]).max(axis=2) > 40).sum() > 100  # boxes and labels


def test_one_frame_is_enough_for_a_picture(page: Web) -> None:
    page.show(view(3))
    (picture,) = parts(page, 1)
    assert np.abs(picture[0, 0].astype(int) - view(3).frame.image[0, 0]).max() < 12


def test_nothing_is_drawn_while_nobody_watches(page: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(seen: View, width: int, quality: int) -> bytes:
        drawn.append(seen.frame.number)
        return pictures.live_jpeg(seen, width, quality)

    monkeypatch.setattr(api, "live_jpeg", counted)
    with running(page, 0.005):
        time.sleep(0.3)
        ask(page, "GET", "/api/state")
        assert drawn == []
        parts(page, 1)
        assert drawn
        until(lambda: page.watchers == 0)
        begun = len(drawn)
        time.sleep(0.3)
        assert len(drawn) == begun


def test_watchers_share_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[float] = []

    def counted(seen: View, width: int, quality: int) -> bytes:
        drawn.append(time.monotonic())
        return pictures.live_jpeg(seen, width, quality)

    monkeypatch.setattr(api, "live_jpeg", counted)
    with served(fps=10) as page, running(page, 0.005):
        threads = [threading.Thread(target=parts, args=(page, 6)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(drawn) <= 10 * (drawn[-1] - drawn[0]) / 0.9 + 2


def test_there_are_only_so_many_watchers_and_those_who_leave_make_room(page: Web) -> None:
    async def crowd() -> list[int]:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session:
            open_ = [await session.get(f"{page.url}api/live.mjpg") for _ in range(api.WATCHERS + 1)]
            assert page.watchers == api.WATCHERS
            return [response.status for response in open_]

    # No frame comes, so that nothing but the connection tells that they are gone.
    assert asyncio.run(crowd()) == [200] * api.WATCHERS + [503]
    until(lambda: page.watchers == 0)


def test_a_watcher_who_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "WATCHER_SECONDS", 0.3)
    monkeypatch.setattr(api, "live_jpeg", lambda *_: bytes(400_000))
    with served(fps=60) as page, running(page):
        silent = socket.create_connection(("127.0.0.1", page.port))
        silent.sendall(f"GET /api/live.mjpg HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode())
        until(lambda: page.watchers == 1)
        until(lambda: page.watchers == 0, 20)
        silent.close()
        assert ask(page, "GET", "/api/state").status == 200


# Enrolling and forgetting


def test_whoever_was_in_the_snapshot_is_enrolled_and_can_be_forgotten(page: Web, house: House) -> None:
    page.show(view(7, tracks=(4, 9)))
    answer = ask(page, "POST", "/api/snapshots")
    still = answer.json
    assert answer.status == 201
    assert [face["track"] for face in still["faces"]] == [4, 9]
    x, y, w, h = still["faces"][0]["box"]
    np.testing.assert_allclose([320 * x, 180 * y, 320 * w, 180 * h], [30, 49, 36, 46], atol=0.6)
    page.show(view(8, tracks=(5,)))
    jpeg = ask(page, "GET", f"/api/snapshots/{still['snapshot']}.jpg")
    assert jpeg.headers["Content-Type"] == "image/jpeg"
    assert cv2.imdecode(np.frombuffer(jpeg.body, np.uint8), 1).shape == (180, 320, 3)

    wanted = {"snapshot": still["snapshot"], "track": 9, "name": "<script>x</script>", "consent": "3 May"}
    answer = ask(page, "POST", "/api/people", wanted)
    assert (answer.status, answer.json["name"], answer.json["templates"]) == (201, "<script>x</script>", 1)
    assert house.enrolled == [(7, 9)]
    (person,) = ask(page, "GET", "/api/people").json["people"]
    assert person == answer.json
    # It is used up.
    assert "take a new one" in refusal(ask(page, "POST", "/api/people", wanted), 404)
    assert ask(page, "DELETE", f"/api/people/{person['id']}").status == 204
    assert house.known == []
    assert "nobody in the gallery" in refusal(ask(page, "DELETE", f"/api/people/{person['id']}"), 404)


def test_a_damaged_gallery_is_no_person_who_is_not_there(house: House, page: Web) -> None:
    person = house.enroll(view(1), 1, "Anna", "3 May")
    house.place[0].write_bytes(b"SQLite format 3\0" + b"x" * 5000)
    assert "gallery" in refusal(ask(page, "DELETE", f"/api/people/{person.id}"), 503)


def test_another_key_is_no_person_who_is_not_there(house: House, page: Web) -> None:
    person = house.enroll(view(1), 1, "Anna", "3 May")
    house.place[3].write_text("0" * 64)
    assert "is not the key of the gallery" in refusal(ask(page, "DELETE", f"/api/people/{person.id}"), 503)


def test_a_snapshot_while_somebody_watches_is_what_was_shown() -> None:
    with served(fps=2) as page:
        page.show(view(1))
        connection = HTTPConnection("127.0.0.1", page.port, timeout=10)
        connection.request("GET", "/api/live.mjpg")
        response = connection.getresponse()
        response.read(3000 // 10)
        page.show(view(2, tracks=(8,)))
        still = ask(page, "POST", "/api/snapshots").json
        assert [face["track"] for face in still["faces"]] == [1, 2]
        connection.close()


def test_the_gallery_has_a_thread_of_its_own_and_is_closed_in_it(house: House) -> None:
    with served(house) as page:
        assert house.opened == 0
        page.show(view())
        name = ask(page, "POST", "/api/snapshots").json["snapshot"]
        body = {"snapshot": name, "track": 1, "name": "Ada", "consent": "yes"}
        id = ask(page, "POST", "/api/people", body).json["id"]
        ask(page, "DELETE", f"/api/people/{id}")
    assert (house.opened, house.closed, len(house.threads)) == (1, 1, 1)
    assert threading.get_ident() not in house.threads


@pytest.mark.parametrize(("fault", "status"), [(OSError("disk\nfull"), 503), (ValueError("other model"), 503)])
def test_a_gallery_that_fails_is_a_line_and_the_page_goes_on(
    page: Web, house: House, fault: Exception, status: int
) -> None:
    house.fault = fault
    assert refusal(ask(page, "GET", "/api/people"), status) == " ".join(str(fault).split())
    house.fault = None
    assert ask(page, "GET", "/api/people").json == {"people": []}


def test_snapshots_are_few_and_do_not_last() -> None:
    kept = Snapshots()
    names = [kept.add(view(i), now=i) for i in range(SNAPSHOTS + 2)]
    assert len(set(names)) == SNAPSHOTS + 2
    assert [kept.get(name, 5) is not None for name in names] == [False] * 2 + [True] * SNAPSHOTS
    assert kept.get(names[-1], SNAPSHOTS + 1 + SNAPSHOT_SECONDS - 0.1) is not None
    kept.expire(SNAPSHOTS + 1 + SNAPSHOT_SECONDS)
    assert len(kept) == 0


# Who may ask


def test_a_token_is_needed_for_everything_but_the_empty_page() -> None:
    with served(token=TOKEN) as page:
        page.show(view())
        assert ask(page, "GET", "/").status == 200
        for method, path in (
            ("GET", "/api/state"),
            ("GET", "/api/live.mjpg"),
            ("POST", "/api/snapshots"),
            ("GET", "/api/snapshots/x.jpg"),
            ("GET", "/api/people"),
            ("POST", "/api/people"),
            ("DELETE", "/api/people/x"),
            ("GET", "/api/nothing"),
        ):
            refusal(ask(page, method, path), 401)
            assert ask(page, method, path, headers={"Authorization": f"Basic {TOKEN}"}).status == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert ask(page, "GET", "/api/state", headers=right).status == 200
        assert len(parts(page, 1, right)) == 1
        assert ask(page, "GET", f"/api/state?token={TOKEN}").status == 401


def test_a_login_gives_a_cookie_that_is_not_the_token() -> None:
    with served(token=TOKEN) as page:
        refusal(ask(page, "POST", "/api/login", {"token": TOKEN + "x"}), 401)
        answer = ask(page, "POST", "/api/login", {"token": TOKEN})
        assert answer.status == 204
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        value = cookie.split(";")[0]
        assert ask(page, "GET", "/api/state", headers={"Cookie": value}).status == 200
        assert ask(page, "GET", "/api/state", headers={"Cookie": value + "x"}).status == 401
    with served(token=TOKEN) as other:
        assert ask(other, "GET", "/api/state", headers={"Cookie": f"slimcam-{other.port}=" + value[13:]}).status == 401


def test_who_guesses_tokens_has_to_wait_and_who_is_logged_in_does_not() -> None:
    with served(token=TOKEN) as page:
        cookie = ask(page, "POST", "/api/login", {"token": TOKEN}).headers["Set-Cookie"].split(";")[0]
        statuses = [
            ask(page, "GET", "/api/state", headers={"Authorization": f"Bearer guess-{i}"}).status for i in range(12)
        ]
        assert statuses == [401] * 10 + [429] * 2
        late = ask(page, "GET", "/api/state", headers={"Authorization": f"Bearer {TOKEN}"})
        assert "wait" in refusal(late, 429)
        assert 0 < int(late.headers["Retry-After"]) <= 61
        refusal(ask(page, "POST", "/api/login", {"token": TOKEN}), 429)
        assert ask(page, "GET", "/api/state", headers={"Cookie": cookie}).status == 200


def test_failures_are_forgotten_in_time_and_their_table_is_bounded() -> None:
    failures = Failures(limit=2, seconds=60, addresses=3)
    failures.add("a", 0)
    assert failures.wait("a", 1) == 0
    failures.add("a", 10)
    assert failures.wait("a", 20) == 40
    assert failures.wait("b", 20) == 0
    assert failures.wait("a", 60) == 0
    failures.add("a", 65)
    assert failures.wait("a", 66) == 4
    for address in "bcd":
        failures.add(address, 70)
    assert failures.wait("a", 66) == 0


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:{port}", True),
        ("localhost:{port}", True),
        ("LOCALHOST:{port}", True),
        ("[::1]:{port}", True),
        # An SSH tunnel may begin at any port.
        ("127.0.0.1", True),
        ("localhost:9000", True),
        ("localhost:123456", False),
        ("localhost.evil.example:9000", False),
        ("evil.example:{port}", False),
        ("127.0.0.1.nip.io:{port}", False),
        ("127.0.0.1:{port}@evil.example", False),
        ("", False),
    ],
)
def test_only_the_loopbacks_names_are_answered(page: Web, host: str, allowed: bool) -> None:
    for path in ("/", "/api/state"):
        answer = ask(page, "GET", path, headers={"Host": host.format(port=page.port)})
        assert answer.status == (200 if allowed else 403)


def test_two_cameras_behind_tunnels_keep_their_cookies_apart() -> None:
    names = []
    with served(token=TOKEN) as page:
        for port in (9000, 9001):
            there = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
            answer = ask(page, "POST", "/api/login", {"token": TOKEN}, headers=there)
            cookie = answer.headers["Set-Cookie"].split(";")[0]
            names.append(cookie.split("=")[0])
            assert ask(page, "GET", "/api/state", headers={**there, "Cookie": cookie}).status == 200
            other = {**there, "Host": "localhost:9002", "Origin": "http://localhost:9002"}
            assert ask(page, "GET", "/api/state", headers={**other, "Cookie": cookie}).status == 401
    assert names == ["slimcam-9000", "slimcam-9001"]


def test_another_address_answers_to_any_name_to_those_with_the_token() -> None:
    with served(host="0.0.0.0", token=TOKEN) as page:
        right = {"Host": "kitchen.local:8765", "Authorization": f"Bearer {TOKEN}"}
        assert ask(page, "GET", "/api/state", headers=right).status == 200
        assert ask(page, "GET", "/api/state", headers={"Host": "kitchen.local"}).status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Slimcam": None},
    ],
)
def test_other_sites_cannot_have_anything_changed(page: Web, house: House, headers: dict[str, Any]) -> None:
    page.show(view())
    id = house.enroll(view(), 1, "Ada", "yes").id
    for method, path in (("POST", "/api/snapshots"), ("DELETE", f"/api/people/{id}"), ("POST", "/api/people")):
        refusal(ask(page, method, path, headers=headers), 403)
    if "X-Slimcam" not in headers:
        refusal(ask(page, "GET", "/api/live.mjpg", headers=headers), 403)
    assert [person.id for person in house.known] == [id]
    own = {"Origin": f"http://127.0.0.1:{page.port}", "Sec-Fetch-Site": "same-origin"}
    assert ask(page, "DELETE", f"/api/people/{id}", headers=own).status == 204


# Hostile requests


BODY = {"snapshot": "x", "track": 1, "name": "Ada", "consent": "yes"}


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 16000, 400, "not JSON"),
        (b'{"track":' + b"9" * 9000 + b"}", 400, ""),
        (b"null", 400, "object with snapshot, track, name, consent"),
        ({**BODY, "more": 1}, 400, "object with"),
        ({"name": "Ada"}, 400, "object with"),
        ({**BODY, "track": "1"}, 400, "track must be an integer"),
        ({**BODY, "track": True}, 400, "track must be an integer"),
        ({**BODY, "track": 1e300}, 400, "track must be an integer"),
        ({**BODY, "track": float("nan")}, 400, "track must be an integer"),
        ({**BODY, "name": {"$gt": ""}}, 400, "name must be a text"),
        ({**BODY, "name": "\ud800"}, 400, "Unicode"),
        ({**BODY, "name": "x" * 1001}, 400, "1000 characters"),
        ({**BODY, "consent": None}, 400, "consent must be a text"),
        ({**BODY, "snapshot": "../../etc/passwd"}, 404, "that snapshot is gone"),
        (b" " * 17000, 413, ""),
        (b"x" * 3_000_000, 413, ""),
    ],
)
def test_malformed_people_are_refused_in_one_line(page: Web, house: House, body: Any, status: int, reason: str) -> None:
    assert reason in refusal(ask(page, "POST", "/api/people", body), status)
    assert house.known == []


@pytest.mark.parametrize("track", [0, -1, 3, 2**70])
def test_tracks_that_are_not_in_the_snapshot_are_refused(page: Web, house: House, track: int) -> None:
    page.show(view())
    name = ask(page, "POST", "/api/snapshots").json["snapshot"]
    assert "no such face" in refusal(ask(page, "POST", "/api/people", {**BODY, "snapshot": name, "track": track}), 404)
    assert "must not be empty" in refusal(
        ask(page, "POST", "/api/people", {**BODY, "snapshot": name, "name": " "}), 422
    )
    assert house.known == []


def test_other_kinds_of_content_are_refused(page: Web) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        refusal(ask(page, "POST", "/api/people", b"{}", {"Content-Type": kind}), 415)
    bomb = {"Content-Encoding": "gzip"}
    refusal(ask(page, "POST", "/api/people", base64.b64decode("H4sIAAAAAAAAA6uuBQBDv6ajAgAAAA=="), bomb), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/../server.py",
        "/..%2f..%2fserver.py",
        "/static/../server.py",
        "//evil.example/",
        "/api/../api/people/",
        "/api/snapshots/..%2f..%2fx.jpg",
        "/api/people/%00",
        "/api/people/" + "a" * 65,
        "/api/people/<script>",
    ],
)
@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "TRACE", "PATCH"])
def test_path_tricks_lead_nowhere(page: Web, method: str, path: str) -> None:
    answer = ask(page, method, path)
    assert answer.status in (404, 405)
    refusal(answer, answer.status)
    assert b"root:" not in answer.body


def raw(page: Web, content: bytes, seconds: float = 5) -> Answer | None:
    """The first answer to these bytes, or None where the server closes or says nothing for so long."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=seconds) as connection:
        with suppress(OSError):  # it may have answered and closed before all was sent
            connection.sendall(content)
        response = HTTPResponse(connection)
        try:
            response.begin()
            return Answer(response.status, response.read(), dict(response.getheaders()))
        except (OSError, HTTPException):
            return None
        finally:
            response.close()


def test_malformed_requests_end_in_one_line_and_their_tokens_in_no_log(
    page: Web, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG", "aiohttp")
    for content in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        f"GET /api/state HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\x00\r\n\r\n".encode(),
        f"GET / HTTP/1.1\r\nHost: x\r\n: {TOKEN}\r\n\r\n".encode(),
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % i for i in range(500)) + b"\r\n",
        b"POST /api/people HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/people HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nzz",
    ):
        answer = raw(page, content)
        assert answer is not None
        assert 400 <= answer.status < 500
        refusal(answer, answer.status)
        assert "Content-Security-Policy" in answer.headers
    assert TOKEN not in caplog.text + "".join(capfd.readouterr())
    assert ask(page, "GET", "/api/state").status == 200


def test_two_hosts_are_no_host(page: Web) -> None:
    own = f"Host: 127.0.0.1:{page.port}\r\n".encode()
    for request in (b"HTTP/1.1\r\n" + own + b"Host: evil.example", b"HTTP/1.0"):
        answer = raw(page, b"GET /api/state " + request + b"\r\n\r\n")
        assert answer is not None
        assert answer.status in (400, 403)


def test_who_dawdles_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.4)
    monkeypatch.setattr(api, "BODY_SECONDS", 0.4)
    with served() as page:
        head = f"POST /api/people HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\nX-Slimcam: 1\r\n".encode()
        slow = socket.create_connection(("127.0.0.1", page.port), timeout=5)
        begin = time.monotonic()
        try:
            while time.monotonic() < begin + 5:
                slow.sendall(b"GET / HTTP/1.1\r\nX: "[int((time.monotonic() - begin) * 20) % 18 :][:1])
                time.sleep(0.05)
        except OSError:
            pass
        assert time.monotonic() < begin + 3
        late = socket.create_connection(("127.0.0.1", page.port), timeout=8)
        late.sendall(head + b'Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"name"')
        assert late.recv(4096).split()[1] == b"408"
        late.close()


def test_connections_are_bounded_and_the_server_recovers(page: Web) -> None:
    crowd = [socket.create_connection(("127.0.0.1", page.port), timeout=5) for _ in range(server.CONNECTIONS)]
    extra = socket.create_connection(("127.0.0.1", page.port), timeout=5)
    assert extra.recv(10) == b""
    for connection in (*crowd, extra):
        connection.close()

    def answers() -> bool:
        try:
            return ask(page, "GET", "/api/state").status == 200
        except OSError:
            return False

    until(answers)


def hostile(rng: random.Random, port: int, cookie: str) -> bytes:
    """A request that is wrong in ways that a die decides; even with the cookie none enrolls or forgets anybody."""
    junk = "".join(rng.choice(string.printable + "\x00é€\u202e") for _ in range(rng.choice((0, 1, 9, 200, 5000))))

    def pick(*sane: str) -> str:
        return rng.choice(sane) if rng.random() < 0.95 else junk

    names = ("<script>alert(1)</script>", "../../x", "'; DROP TABLE people; --", "\x00", "A" * 20000, junk)
    bodies: tuple[object, ...] = (
        {**BODY, "name": rng.choice(names)},
        {**BODY, "track": rng.choice((-1, 1e308, None, 10**40, "1"))},
        {**BODY, "snapshot": rng.choice(names)},
        {"token": rng.choice(names)},
        {"into": rng.choice(names)},
        {"expires": rng.choice((-1, 1e308, "x", [], 10**40))},
        {"faces": rng.choice(([], [1], [junk], "x")), "name": "x", "consent": "x", "person": rng.choice(names)},
        [[]],
        rng.choice(names),
    )
    body = rng.choice(
        (json.dumps(rng.choice(bodies)).encode(), rng.randbytes(rng.choice((1, 50, 20000))), b'{"a":' * 3000)
    )
    method = pick("GET", "POST", "POST", "DELETE", "PATCH", "PUT", "HEAD", "OPTIONS", "TRACE", "get")
    path = pick(
        "/", "/api/state", "/api/people", "/api/people", "/api/people/x", "/api/login", "/api/snapshots",
        "/api/snapshots/x.jpg", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/api/people/%2e%2e%2fx",
        "/api/people/x/merge", "/api/people/x/templates", "/api/people/x/templates/1", "/api/people/" + 32 * "0",
        "/api/unknown", f"/api/unknown/{32 * '0'}", f"/api/unknown/{32 * '0'}.png", "/api/unknown/..%2f..%2fkey",
        "http://evil/", "*",
    )  # fmt: skip
    headers = {
        "Host": pick(*[f"127.0.0.1:{port}"] * 9, "evil.example"),
        "Content-Length": pick(*[str(len(body))] * 8, "0", str(10**12), "-1"),
        "Content-Type": pick(*["application/json"] * 4, "text/html"),
        "Authorization": pick("Bearer wrong", "Bearer", "Basic eDp5"),
        "Cookie": pick(*[cookie] * 4, f"slimcam-{port}=x"),
        "Origin": pick("http://evil.example", "null"),
        "X-Slimcam": "1",
        "Transfer-Encoding": "chunked",
        "X-Filler": rng.choice((9000 * "x", "\r\n".join(["x"] + 3000 * ["X-More: x"]))),
        "Upgrade": "websocket",
    }
    shares = {"Transfer-Encoding": 0.05, "Origin": 0.1, "Authorization": 0.2, "X-Filler": 0.05, "Upgrade": 0.05}
    kept = [name for name in headers if rng.random() < shares.get(name, 0.95)]
    lines = [f"{method} {path} HTTP/1.{rng.choice('0111')}", *(f"{name}: {headers[name]}" for name in kept)]
    request = "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + body
    return request[: rng.randrange(len(request) + 1)] if rng.random() < 0.1 else request


def test_hostile_requests_change_nothing_and_the_camera_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    house = House(tmp_path)
    ada = house.enroll(view(), 1, "Ada", "yes")
    enrolled = list(house.enrolled)
    rng = random.Random(6)
    statuses: Counter[int] = Counter()
    with served(house, token=TOKEN) as page, running(page):
        cookie = ask(page, "POST", "/api/login", {"token": TOKEN}).headers["Set-Cookie"].split(";")[0]
        for i in range(int(os.environ.get("SLIMCAM_HOSTILE", "100"))):
            request = hostile(rng, page.port, cookie)
            answer = raw(page, request, 0.5)
            statuses[answer.status if answer else 0] += 1
            if answer is None:
                continue
            assert 200 <= answer.status < 500, (i, request, answer)
            if answer.status >= 400 and answer.body:  # none after HEAD
                refusal(answer, answer.status)
        before = ask(page, "GET", "/api/state", headers={"Cookie": cookie}).json["frames"]
        until(lambda: ask(page, "GET", "/api/state", headers={"Cookie": cookie}).json["frames"] > before)
    assert (house.known, house.enrolled) == ([ada], enrolled)
    assert statuses[0] < 0.5 * sum(statuses.values())
    assert caplog.text == ""
    assert capfd.readouterr().err == ""
    print(f"answers by status, 0 for none: {dict(sorted(statuses.items()))}")


# The server's life


def test_close_ends_the_thread_and_frees_the_port_even_with_watchers() -> None:
    threads = threading.active_count()
    page = Web(WebConfig(port=0), House().gallery, House().enroll, lambda: "")
    page.show(view())

    def watch() -> None:
        with pytest.raises((EOFError, aiohttp.ClientError)):
            parts(page, 10**6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    until(lambda: page.watchers == 1)
    begin = time.monotonic()
    page.close()
    assert time.monotonic() < begin + 5
    watcher.join(5)
    assert threading.active_count() == threads
    page.close()  # again is nothing
    page.show(view())
    with served(port=page.port) as again:
        assert again.port == page.port


def test_a_port_that_is_taken_is_one_line_and_leaves_no_thread(page: Web) -> None:
    threads = threading.active_count()
    with pytest.raises(OSError, match=rf"127\.0\.0\.1 port {page.port} .*choose another web\.port") as error:
        Web(WebConfig(port=page.port), House().gallery, House().enroll, lambda: "")
    assert "\n" not in str(error.value)
    with pytest.raises(OSError, match="cannot be served"):
        Web(WebConfig(host="192.0.2.1", token=TOKEN), House().gallery, House().enroll, lambda: "")
    assert threading.active_count() == threads


def test_showing_takes_no_copy_and_keeps_no_views(page: Web) -> None:
    shown = []
    for number in range(50):
        one = view(number)
        shown.append(weakref.ref(one))
        page.show(one)
    del one
    gc.collect()
    assert sum(reference() is not None for reference in shown) == 1


def test_other_machines_are_not_let_in_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.5", "kitchen.local", "127.0.0.1.nip.io"):
        with pytest.raises(ValueError, match=f"lets other machines in: set a token in {TOKEN_VARIABLE}"):
            WebConfig(host=host)
        assert access_token(WebConfig(host=host, token=TOKEN)) == TOKEN
        WebConfig(host=host, port=None)
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        assert access_token(WebConfig(host=host)) is None
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    config = WebConfig(host="0.0.0.0")
    assert access_token(config) == TOKEN
    assert config.token is None  # whoever writes the config down writes no secret
    assert TOKEN not in repr(WebConfig(token=TOKEN))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"port": 70000}, "0 to 65535"),
        ({"host": ""}, "an address"),
        ({"host": "http://x"}, "without http"),
        ({"token": "short"}, "16 to 200"),
        ({"token": "with space in the middle"}, "16 to 200"),
        ({"fps": 0}, "above 0"),
        ({"fps": float("nan")}, "above 0"),
        ({"width": 10}, "64 to 4096"),
        ({"quality": 0}, "1 to 100"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        WebConfig(**options)
    assert "\n" not in str(error.value)
    assert str(options.get("token", "no token")) not in str(error.value)


def test_a_camera_without_the_page_loads_no_web_library() -> None:
    loaded = "import sys, slimcam.deploy.camera.web.config; print(sorted({'aiohttp', 'ssl', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True).stdout == "[]\n"

"""The page in a real browser, before a camera that sees rendered faces. SLIMCAM_SHOTS=FOLDER keeps screenshots."""

from __future__ import annotations

import functools
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import cv2
import numpy as np
import pytest

from slimcam.deploy.camera.web import api, pictures
from slimcam.deploy.camera.web.config import WebConfig
from slimcam.deploy.camera.web.server import Web
from slimcam.deploy.gallery.people import Person
from slimcam.deploy.ota.device.status import UpdateStatus
from slimcam.deploy.types import STAGES, Event, EventKind, Frame, Identity, Notice, Sighting, SourceStatus, View
from slimcam.training.data.detection.rendered_faces import rendered_points
from slimcam.training.data.drawing.traits import sample_person, sample_shot
from slimcam.training.data.recognition.synthetic import draw_face

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")

NAME = "<script>alert(1)</script> & Söhne"
HEIGHT, WIDTH = 540, 960
LONG = 30_000
"""ms after which what is waited for does not come; on an idle machine it takes a second."""


@dataclass
class Camera:
    """A scene of faces that move, recognised once they are enrolled, shown to a page in a thread."""

    people: dict[int, Person] = field(default_factory=dict)
    quality_issues: tuple[str, ...] = ()
    running: bool = True
    number: int = 0
    enrolled: list[tuple[View, int]] = field(default_factory=list)
    told: set[tuple[int, str]] = field(default_factory=set)
    begin: float = field(default_factory=time.monotonic)

    def view(self) -> View:
        rng = np.random.default_rng(self.number)
        image = backdrop().copy()
        sightings, events = [], []
        for track, (left, top, size) in enumerate(((140, 150, 220), (590, 120, 190)), 1):
            left += round(60 * np.sin(self.number / 15 + track))
            image[top : top + size, left : left + size] = face(track, size)
            points = rendered_points(sample_person(track), sample_shot(track, 0)) * (size / 112) + (left, top)
            person = self.people.get(track)
            identity = Identity(person.id, person.name, 0.71, 0.4) if person else Identity(None, None, 0.21, 0.02)
            quality_issues = self.quality_issues if track == 2 else ()
            sightings.append(Sighting(track, points.astype(np.float32), 0.97, quality_issues, identity))
            kinds: list[EventKind] = ["appeared", "recognised" if person else "unknown"]
            for kind in kinds:
                if (track, kind) not in self.told:
                    self.told.add((track, kind))
                    known = None if kind == "appeared" else identity
                    events.append(Event(kind, track, known, self.number / 15, time.time()))
        now = time.monotonic()
        frame = Frame(image, self.number, now - self.begin, now - 0.04, lost=int(self.number % 40 == 39))
        spent = dict(zip(STAGES, (9.1, 0.3, 0.8, 7.4, 0.2, 22.0), strict=True))
        milliseconds = {stage: ms * float(rng.gamma(12, 1 / 12)) for stage, ms in spent.items()}
        self.number += 1
        return View(frame, tuple(sightings), tuple(events), milliseconds)

    def run(self, page: Web) -> None:
        while self.running:
            page.show(self.view())
            time.sleep(1 / 15)

    def enroll(self, view: View, track: int, name: str, consent: str, person: str = "") -> Person:  # noqa: ARG002
        if name == "nobody":
            raise ValueError("that name is refused")
        self.enrolled.append((view, track))
        self.people[track] = Person(uuid.uuid4().hex, name, 1, time.time(), None, consent)
        return self.people[track]

    def list(self) -> list[Person]:
        return list(self.people.values())

    def forget(self, person: str) -> None:
        track = next(track for track, one in self.people.items() if one.id == person)
        del self.people[track]
        self.told.discard((track, "unknown"))


@functools.cache
def backdrop() -> np.ndarray:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([60 + x / 12, 75 + y / 9, 100 + (x + y) / 20], axis=2).astype(np.uint8)


@functools.cache
def face(identity: int, size: int) -> np.ndarray:
    return cv2.resize(draw_face(identity, 0), (size, size))


class Known:
    """The camera's people as the gallery that the page opens."""

    def __init__(self, camera: Camera) -> None:
        self.people, self.forget = camera.list, camera.forget

    def close(self) -> None:
        pass


@contextmanager
def served(camera: Camera, update: Callable[[], UpdateStatus] | None = None, **options: Any) -> Iterator[Web]:
    page = Web(WebConfig(port=0, **options), lambda: Known(camera), camera.enroll, lambda: "webcam 0", update)
    thread = threading.Thread(target=camera.run, args=(page,))
    thread.start()
    try:
        yield page
    finally:
        camera.running = False
        thread.join()
        page.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visited(browser: Any, url: str, **options: Any) -> Iterator[tuple[Any, list[str]]]:
    """A page and what it complains of: errors, violations of its policy, failed requests, other hosts."""
    page, complaints = browser.new_page(**options), []
    page.on("console", lambda message: complaints.append(message.text) if message.type != "info" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.on("request", lambda one: None if one.url.startswith(url) else complaints.append(one.url))
    page.goto(url)
    yield page, complaints
    page.close()


def await_picture(page: Any, image: str) -> None:
    until(lambda: page.evaluate("id => document.getElementById(id).naturalWidth", image))


def until(condition: Callable[[], Any]) -> None:
    """Waits for something that happens in the server or the page.

    The page's policy forbids `page.wait_for_function`, which evaluates text there whenever it was not true at first.
    """
    deadline = time.monotonic() + LONG / 1000
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def live_pixels(page: Any) -> list[int]:
    """The live view, as 32x18 pixels."""
    pixels: list[int] = page.evaluate(
        """() => {
            const canvas = document.createElement("canvas"), context = canvas.getContext("2d");
            [canvas.width, canvas.height] = [32, 18];
            context.drawImage(document.getElementById("live"), 0, 0, 32, 18);
            return [...context.getImageData(0, 0, 32, 18).data];
        }"""
    )
    return pixels


def shot(page: Any, name: str, full: bool = False) -> None:
    if folder := os.environ.get("SLIMCAM_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=full)


def test_enrol_a_clicked_face_see_its_name_and_forget_it(browser: Any) -> None:
    camera = Camera()
    with (
        served(camera) as web,
        visited(browser, web.url, viewport={"width": 1280, "height": 900}) as (page, complaints),
    ):
        await_picture(page, "live")
        before = live_pixels(page)
        assert len(set(before)) > 20
        page.wait_for_timeout(500)
        assert live_pixels(page) != before
        assert page.locator("#faces li").count() == 2
        assert page.locator("#source").inner_text() == "webcam 0"
        assert page.locator("#no-people").is_visible()

        # The face on the right in the picture is track 2.
        area = page.locator("#live").bounding_box()
        points = camera.view().sightings[1].points.mean(axis=0)
        x, y = (points / (WIDTH, HEIGHT)).tolist()
        page.mouse.click(area["x"] + area["width"] * x, area["y"] + area["height"] * y)
        page.locator("#enroll[open]").wait_for(timeout=LONG)
        assert page.locator(".box[aria-pressed=true]").get_attribute("aria-label") == "Choose Unknown, track 2"
        at = camera.number
        page.wait_for_timeout(400)
        assert camera.number > at
        page.locator("#name").fill("nobody")
        page.locator("#consent").fill("asked at the door")
        page.locator("#enroll-do").click()
        page.locator("#enroll-error", has_text="that name is refused").wait_for(timeout=LONG)
        assert not camera.people
        complaints[:] = [one for one in complaints if "422" not in one]  # Chromium tells of every refused request
        page.locator("#name").fill(NAME)
        page.locator("#name").press("Enter")
        page.locator("#people b", has_text=NAME).wait_for(timeout=LONG)
        assert not page.locator("#enroll").is_visible()
        (view, track), *more = camera.enrolled
        assert not more
        assert (track, camera.people[2].name, camera.people[2].consent) == (2, NAME, "asked at the door")
        assert view.frame.number <= at  # the view of the click, not that of the answer

        page.locator("#faces b", has_text=NAME).wait_for(timeout=LONG)
        page.locator("#events b", has_text=NAME).wait_for(timeout=LONG)
        assert page.locator("#faces script, #people script, #events script").count() == 0
        assert page.locator("#stages tr").count() == len(STAGES)
        assert page.locator("#history path.line").count() == 3

        page.get_by_role("button", name=f"Forget {NAME}").click()
        assert NAME in page.locator("#forget h2").inner_text()
        page.locator("#forget-cancel").click()
        assert camera.people
        page.get_by_role("button", name=f"Forget {NAME}").click()
        page.locator("#forget-do").click()
        page.locator("#no-people").wait_for(timeout=LONG)
        assert not camera.people
        page.locator("#faces .unknown b", has_text="Unknown").nth(1).wait_for(timeout=LONG)
    assert complaints == []


def test_a_card_is_enough_and_a_keyboard_too(browser: Any) -> None:
    camera = Camera(quality_issues=("small", "blurred"))
    with served(camera) as web, visited(browser, web.url) as (page, complaints):
        card = page.get_by_role("button", name="Unknown, track 2: enroll this face")
        card.focus(timeout=LONG)
        page.wait_for_timeout(1500)  # cards are rendered again meanwhile
        page.keyboard.press("Enter")
        page.locator("#enroll[open]").wait_for(timeout=LONG)
        assert page.locator("#hint").inner_text() == "Not a good view of this face: small, blurred."
        page.keyboard.press("Escape")
        assert not page.locator("#enroll").is_visible()
        page.get_by_role("button", name="Enroll from a snapshot").click()
        page.locator("#name").fill("Ada")
        page.locator("#consent").fill("yes")
        page.keyboard.press("Enter")
        page.locator("#people b", has_text="Ada").wait_for(timeout=LONG)
        assert list(camera.people) == [1]
    assert complaints == []


def test_a_camera_with_a_token_asks_for_it(browser: Any) -> None:
    token = "correct-horse-battery"
    with served(Camera(), token=token) as web, visited(browser, web.url) as (page, complaints):
        page.locator("#token").fill("wrong-horse-battery")
        page.locator("#token").press("Enter")
        page.locator("#login-error", has_text="that is not the token").wait_for(timeout=LONG)
        assert not page.locator("#page").is_visible()
        page.locator("#token").fill(token)
        page.locator("#token").press("Enter")
        page.locator("#faces li").first.wait_for(timeout=LONG)
        await_picture(page, "live")
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert token not in cookie["value"] + page.url + page.content()
        assert all("401" in one for one in complaints)
        del complaints[:]
        page.reload()
        page.locator("#faces li").first.wait_for(timeout=LONG)
    assert complaints == []


def test_a_camera_that_is_gone_is_said_to_be_and_comes_back(browser: Any) -> None:
    camera = Camera()
    with served(camera) as web, visited(browser, web.url) as (page, _):
        page.locator("#faces li").first.wait_for(timeout=LONG)
        port = web.port
        web.close()
        page.locator("#source", has_text="camera not reached").wait_for(timeout=LONG)
        again = Web(WebConfig(port=port), lambda: Known(camera), camera.enroll, lambda: "webcam 0")
        again.show(camera.view())
        page.locator("#source", has_text="webcam 0").wait_for(timeout=LONG)
        await_picture(page, "live")
        page.locator("#stale", has_text="old").wait_for(timeout=LONG)
        again.close()


def test_events_of_another_day_have_a_date_and_the_log_goes_on_over_a_restart(browser: Any) -> None:
    camera = Camera()
    midnight = datetime(2026, 5, 2, tzinfo=ZoneInfo("Asia/Tokyo")).timestamp()
    options = {"timezone_id": "Asia/Tokyo", "locale": "en-GB"}
    with served(camera) as web, visited(browser, web.url, **options) as (page, _):
        page.clock.set_fixed_time(midnight + 60)
        status = SourceStatus("lost", midnight - 30, "live")
        left = [Event("left", track, None, 1.0, midnight + after) for track, after in ((7, -30), (8, 30))]
        web.notice(Notice(status, tuple(left)))
        page.locator("#source", has_text="lost since 01/05/2026, 23:59:30").wait_for(timeout=LONG)
        page.locator("#events b", has_text="Face 8").wait_for(timeout=LONG)
        times = {one.inner_text().split("\n")[0] for one in page.locator("#events li", has_text="left").all()}
        assert times == {"01/05/2026, 23:59:30", "00:00:30"}
        page.clock.set_fixed_time(midnight + 86400)
        page.locator("#events time", has_text="02/05/2026, 00:00:30").wait_for(timeout=LONG)

        port, before = web.port, page.locator("#events li").count()
        web.close()
        again = Web(WebConfig(port=port), lambda: Known(camera), camera.enroll, lambda: "webcam 0")
        again.notice(Notice(replace(status, state="connected"), (Event("left", 9, None, 1.0, midnight),)))
        page.locator("#events b", has_text="Face 9").wait_for(timeout=LONG)
        assert page.locator("#events li").count() == before + 1
        again.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_screens_of_all_widths(browser: Any, width: int, scheme: str) -> None:
    camera = Camera(quality_issues=("blurred",))
    camera.people[1] = Person("1", "Ada Lovelace", 1, time.time(), None, "herself, 3 May, for the door")
    camera.people[7] = Person("7", "W" * 100, 3, 1.7e9, 1.9e9, "a long note on consent " * 20)
    options = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme}
    with served(camera) as web, visited(browser, web.url, **options) as (page, complaints):
        page.locator("#people li").nth(1).wait_for(timeout=LONG)
        page.wait_for_timeout(6000 if os.environ.get("SLIMCAM_SHOTS") else 300)
        assert page.evaluate("document.documentElement.scrollWidth") == width
        shot(page, f"page-{width}-{scheme}", full=True)
        page.get_by_role("button", name="Unknown, track 2").click()
        await_picture(page, "still")
        assert page.evaluate("document.getElementById('enroll').scrollWidth") <= width
        shot(page, f"enroll-{width}-{scheme}")
        page.keyboard.press("Escape")
        page.get_by_role("button", name="Forget Ada Lovelace").click()
        shot(page, f"forget-{width}-{scheme}")
    assert complaints == []


def test_a_page_that_nobody_looks_at_costs_no_pictures(browser: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(view: View, width: int, quality: int) -> bytes:
        drawn.append(view.frame.number)
        return pictures.live_jpeg(view, width, quality)

    monkeypatch.setattr(api, "live_jpeg", counted)
    camera = Camera()
    with served(camera) as web, visited(browser, web.url) as (page, _):
        await_picture(page, "live")
        shown, begun = camera.number, len(drawn)
        until(lambda: camera.number >= shown + 30)
        assert len(drawn) > begun + 1
        page.close()
        until(lambda: not web.watchers)
        shown, begun = camera.number, len(drawn)
        until(lambda: camera.number >= shown + 30)
        assert len(drawn) <= begun + 1, "more than the picture that was begun"


def test_the_state_of_updates_is_shown(browser: Any) -> None:
    status = [UpdateStatus("trial", 8, 8, 40)]
    with served(Camera(), lambda: status[-1]) as web, visited(browser, web.url) as (page, complaints):
        line = page.locator("#update")
        line.wait_for(timeout=LONG)
        assert line.inner_text() == "Models: release 8 · on trial, 40 %"
        shot(page, "update")
        status.append(UpdateStatus("idle", 7, None, None, "release 8: <b>slow</b>", 1))
        page.locator("#update", has_text="release 7 · release 8: <b>slow</b>").wait_for(timeout=LONG)
        assert not complaints


def test_a_camera_without_updates_says_nothing_of_them(browser: Any) -> None:
    with served(Camera()) as web, visited(browser, web.url) as (page, _):
        await_picture(page, "live")
        assert page.locator("#update").is_hidden()

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.camera.recognition import RecognitionPipeline
from slimcam.deploy.camera.sources import SourceKind
from slimcam.deploy.camera.track_identity import IdentityMatcher, RecognizeConfig
from slimcam.deploy.gallery.match import threshold
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import STAGES, Event, Frame, Identity, View
from slimcam.deploy.vision.align import CROP_SIZE, TEMPLATE, align
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.far_faces import Reach
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.deploy.vision.track import TrackConfig
from slimcam.training.data.detection.rendered_faces import rendered_points
from slimcam.training.data.drawing.traits import sample_person, sample_shot
from slimcam.training.data.recognition.synthetic import draw_face

BUNDLE = Path(__file__).parents[3] / "deploy/models/recognizer"
CONFIG = RecognizeConfig()
SIZE = 64
RATE = 20


# Voting


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values)).astype(np.float32)


def direction(seed: int) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=SIZE))


class Gallery:
    """Knows people by one template each."""

    def __init__(self, people: dict[str, np.ndarray], least: float = 0.6) -> None:
        self.people, self.least, self.asked = people, least, 0

    def match(self, embedding: np.ndarray) -> Identity:
        self.asked += 1
        assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-4)
        score, name = max((float(embedding @ template), name) for name, template in self.people.items())
        return Identity(name, name, score, 1.0) if score >= self.least else Identity(None, None, score, 1.0)


ANNA, BERT = direction(1), direction(2)
BOTH = Gallery({"Anna": ANNA, "Bert": BERT})


# Seeing


class Shown:
    """Finds the faces it is told of."""

    def __init__(self) -> None:
        self.faces: list[np.ndarray] = []

    def detect(self, frame: np.ndarray) -> Faces:
        del frame
        return Faces(np.array(self.faces, np.float32).reshape(-1, 5, 2), np.full(len(self.faces), 0.95, np.float32))


class Colors:
    """Embeds a face by the shade of its first corner pixel, and counts."""

    def __init__(self, people: dict[int, np.ndarray]) -> None:
        self.people, self.calls = people, list[int]()

    def embed(self, images: np.ndarray) -> np.ndarray:
        assert images.shape[1:] == (CROP_SIZE, CROP_SIZE, 3)
        self.calls.append(len(images))
        shades = images[:, 56, 56].astype(int).sum(axis=1)
        return np.stack([self.people[min(self.people, key=lambda one: abs(one - shade))] for shade in shades])


def scene(*people: int, at: Callable[[int], tuple[int, int]]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A frame with rendered people, by their seeds, and their points."""
    frame = np.full((360, 640, 3), 100, np.uint8)
    points = []
    for i, person in enumerate(people):
        x, y = at(i)
        face, places = rendered(person)
        frame[y : y + CROP_SIZE, x : x + CROP_SIZE] = face
        points.append(places + np.float32((x, y)))
    return frame, points


@functools.cache
def rendered(person: int) -> tuple[np.ndarray, np.ndarray]:
    return draw_face(person, 1), rendered_points(sample_person(person), sample_shot(person, 1))


def in_a_row(i: int) -> tuple[int, int]:
    return 10 + 125 * i, 100


def shade(person: int) -> int:
    frame, (points,) = scene(person, at=in_a_row)
    return int(align(frame, points)[56, 56].astype(int).sum())


class Stage:
    """A camera before rendered people."""

    def __init__(
        self,
        matcher: IdentityMatcher | None,
        embeddings: dict[int, np.ndarray],
        kind: SourceKind = SourceKind.clip,
        rate: float = RATE,
        **config: float,
    ) -> None:
        self.detector = Shown()
        self.recognizer = Colors({shade(person): embedding for person, embedding in embeddings.items()})
        self.recognition = RecognitionPipeline(
            *(self.detector, self.recognizer, matcher, RecognizeConfig(**config), QualityConfig(), TrackConfig()),
            kind=kind,
            fps=rate,
        )
        self.number, self.rate = 0, rate
        self.events: list[Event] = []

    def see(self, *people: int, frames: int = 1) -> View:
        for _ in range(frames):
            image, self.detector.faces = scene(*people, at=in_a_row)
            frame = Frame(image, self.number, self.number / self.rate, time.monotonic())
            view = self.recognition.see(frame)
            self.number += 1
            self.events += view.events
        return view

    @property
    def told(self) -> list[tuple[str, int, str | None]]:
        return [(one.kind, one.track, one.identity.name if one.identity else None) for one in self.events]


def test_a_person_appears_is_recognised_and_leaves() -> None:
    stage = Stage(BOTH, {0: ANNA})
    view = stage.see(0)
    assert set(view.milliseconds) == set(STAGES)
    assert all(took >= 0 for took in view.milliseconds.values())
    assert view.milliseconds["result"] >= view.milliseconds["detect"]
    (sighting,) = view.sightings
    assert (sighting.track, sighting.quality_issues) == (1, ())
    assert sighting.identity == Identity("Anna", "Anna", pytest.approx(1, abs=1e-5), 1.0)
    stage.see(0, frames=2 * RATE)
    assert stage.see(frames=2 * RATE).sightings == ()
    assert stage.told == [("appeared", 1, None), ("recognised", 1, "Anna"), ("left", 1, "Anna")]
    assert stage.events[1].seconds == pytest.approx(CONFIG.spacing, abs=1 / RATE)
    assert abs(stage.events[1].at - time.time()) < 60


def test_each_face_of_a_picture_is_answered_after_one_look() -> None:
    stage = Stage(BOTH, {0: ANNA, 1: BERT, 2: direction(7)}, SourceKind.pictures, rate=1.0)
    # One portrait after the other, all in one place before one backdrop.
    assert [names(stage.see(person)) for person in (0, 1, 2, 0)] == [["Anna"], ["Bert"], [None], ["Anna"]]
    assert [one for one in stage.told if one[0] != "appeared"] == [
        *(("recognised", 1, "Anna"), ("recognised", 2, "Bert"), ("left", 1, "Anna"), ("unknown", 3, None)),
        *(("left", 2, "Bert"), ("recognised", 4, "Anna"), ("left", 3, None)),
    ]
    together = Stage(BOTH, {0: ANNA, 1: BERT, 2: direction(7)}, SourceKind.pictures, rate=1.0).see(0, 1, 2)
    assert names(together) == ["Anna", "Bert", None]


@pytest.mark.parametrize("told", [0.5, 0.0])
def test_who_is_seen_once_in_two_seconds_is_recognised_and_taken_for_nobody_else(told: float) -> None:
    stage = Stage(BOTH, {0: ANNA, 1: BERT}, SourceKind.live, rate=told)
    stage.rate = 0.5
    for person in (0, 0, 0, 1, 1):
        view = stage.see(person)
    assert names(view) == ["Bert"]
    assert stage.told == [("appeared", 1, None), ("recognised", 1, "Anna"), ("recognised", 1, "Bert")]


def test_a_slow_moment_of_a_camera_changes_no_rules() -> None:
    stage = Stage(BOTH, {0: ANNA, 1: BERT})
    stage.see(0, frames=RATE)
    before = stage.recognition.config
    stage.number += 3 * RATE
    stage.see(0, frames=3)
    assert stage.recognition.config == before


def names(view: View) -> list[str | None]:
    assert all(sighting.identity is not None for sighting in view.sightings)
    return [sighting.identity.name for sighting in view.sightings if sighting.identity is not None]


def test_a_stranger_is_unknown_within_a_second() -> None:
    stage = Stage(BOTH, {0: direction(9)})
    stage.see(0, frames=RATE)
    assert stage.told == [("appeared", 1, None), ("unknown", 1, None)]
    assert stage.events[1].identity is not None
    assert not stage.events[1].identity.known


def test_five_faces_take_one_embedding_a_frame_and_are_all_recognised() -> None:
    people = {person: direction(20 + person) for person in (0, 1, 3, 4, 6)}
    stage = Stage(Gallery({f"person {i}": embedding for i, embedding in people.items()}), people)
    first = stage.see(*people)
    assert all(not one.quality_issues for one in first.sightings)
    stage.see(*people, frames=len(people) - 1)
    assert stage.recognizer.calls == [1] * 5
    seen = [one.identity.name for one in stage.see(*people).sightings if one.identity]
    assert seen == [f"person {i}" for i in people]
    stage.see(*people, frames=30 * RATE)
    assert max(stage.recognizer.calls) == 1
    assert sorted(one for one in stage.told if one[0] != "appeared") == [
        ("recognised", number, f"person {person}") for number, person in enumerate(people, 1)
    ]
    # Settled faces cost next to nothing: five, each once in 8 seconds.
    before = len(stage.recognizer.calls)
    stage.see(*people, frames=8 * RATE)
    assert len(stage.recognizer.calls) - before <= 6


def test_a_larger_budget_looks_at_more_faces_at_once() -> None:
    stage = Stage(BOTH, {0: ANNA, 1: BERT, 3: direction(9)}, budget=2)
    stage.see(0, 1, 3)
    assert stage.recognizer.calls == [2]


def test_views_with_flaws_are_not_looked_at() -> None:
    stage = Stage(BOTH, {0: ANNA})
    stage.recognition.quality = QualityConfig(min_size=500)
    view = stage.see(0, frames=RATE)
    assert stage.recognizer.calls == []
    assert (view.sightings[0].quality_issues, view.sightings[0].identity) == (("small",), None)
    assert stage.told == [("appeared", 1, None)]


def test_without_a_gallery_nothing_is_embedded() -> None:
    stage = Stage(None, {0: ANNA})
    assert stage.see(0, frames=RATE).sightings[0].identity is None
    assert stage.recognizer.calls == []
    stage.recognition.use(BOTH)
    stage.see(0, frames=RATE)
    assert stage.told[-1] == ("recognised", 1, "Anna")


def test_another_gallery_is_used_at_once_and_without_embedding_anew() -> None:
    stage = Stage(BOTH, {0: ANNA, 1: direction(9)}, rest=60.0, again=60.0)
    stage.see(0, 1, frames=2 * RATE)
    assert sorted(stage.told[2:]) == [("recognised", 1, "Anna"), ("unknown", 2, None)]
    calls = len(stage.recognizer.calls)
    stage.recognition.use(Gallery({"Bert": BERT, "Carl": direction(9)}))
    view = stage.see(0, 1)
    assert [one.identity.name for one in view.sightings if one.identity] == [None, "Carl"]
    assert sorted(stage.told[4:]) == [("recognised", 2, "Carl"), ("unknown", 1, None)]
    stage.recognition.use(None)
    assert all(one.identity is None for one in stage.see(0, 1).sightings)
    stage.recognition.use(BOTH)
    stage.see(0, 1)
    assert len(stage.recognizer.calls) == calls


def test_the_same_gallery_given_again_is_asked_again() -> None:
    gallery = Gallery({"Bert": BERT})
    stage = Stage(gallery, {0: ANNA})
    stage.see(0, frames=RATE)
    gallery.people["Anna"] = ANNA
    stage.recognition.use(gallery)
    stage.see(0)
    assert stage.told[-2:] == [("unknown", 1, None), ("recognised", 1, "Anna")]


def test_galleries_may_be_swapped_from_another_thread() -> None:
    stage = Stage(BOTH, {0: ANNA})
    galleries = [Gallery({"Anna": ANNA}), Gallery({"Bert": BERT})]
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            for one in galleries:
                stage.recognition.use(one)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        stage.see(0, frames=2 * RATE)
    finally:
        done.set()
        thread.join()
    stage.recognition.use(galleries[0])
    identity = stage.see(0).sightings[0].identity
    assert identity is not None
    assert identity.name == "Anna"


def test_a_face_that_is_exchanged_in_place_is_told_anew() -> None:
    stage = Stage(BOTH, {0: ANNA, 1: BERT})
    stage.see(0, frames=2 * RATE)
    stage.see(1, frames=10 * RATE)
    assert stage.told == [("appeared", 1, None), ("recognised", 1, "Anna"), ("recognised", 1, "Bert")]


def test_who_comes_back_as_somebody_else_is_noticed_soon() -> None:
    stage = Stage(BOTH, {0: ANNA, 1: BERT})
    stage.see(0, frames=20 * RATE)
    stage.see(frames=RATE // 2)
    stage.see(1, frames=RATE)
    assert stage.told[1:] == [("recognised", 1, "Anna"), ("recognised", 1, "Bert")]


def test_people_leave_with_their_scene() -> None:
    stage = Stage(BOTH, {0: ANNA})
    stage.see(0, frames=RATE)
    image, points = scene(0, at=in_a_row)
    image[:180] = 255 - image[:180]
    image[::2, 300:] = 255
    stage.detector.faces = points
    view = stage.recognition.see(Frame(image, stage.number, stage.number / RATE, time.monotonic()))
    assert [(one.kind, one.track) for one in view.events] == [("appeared", 2), ("left", 1)]


def test_memory_does_not_grow_with_tracks_that_have_left() -> None:
    stage = Stage(BOTH, {0: ANNA})
    for _ in range(4):
        stage.see(0, frames=3)
        stage.see(frames=2 * RATE)
    assert stage.told[-1][:2] == ("left", 4)
    assert not stage.recognition._identities


def test_frames_of_another_shape_are_refused_and_the_next_one_is_seen() -> None:
    stage = Stage(BOTH, {0: ANNA})
    stage.detector.faces = scene(0, at=in_a_row)[1]
    with pytest.raises(ValueError, match="gray") as error:
        stage.recognition.see(Frame(np.zeros((360, 640), np.uint8), 0, 0.0, time.monotonic()))
    assert "\n" not in str(error.value)
    assert len(stage.see(0).sightings) == 1


def test_drawn_people_are_recognised_by_the_committed_model() -> None:
    """Enrolled by other pictures of the same drawing: moved, with noise; the third person is not enrolled."""
    recognizer = Recognizer(BUNDLE)
    rng = np.random.default_rng(0)
    people = (0, 1, 5)

    def taken(i: int) -> tuple[np.ndarray, list[np.ndarray]]:
        image, points = scene(*people, at=lambda k: (40 + 180 * k + 2 * i, 60 + i))
        noise = rng.normal(0, 3, image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8), [one + rng.normal(0, 0.5, (5, 2)) for one in points]

    image, points = taken(0)
    templates = recognizer.embed(np.stack([align(image, one) for one in points]))
    gallery = Gallery(
        {f"person {person}": template for person, template in zip(people[:2], templates, strict=False)},
        threshold(recognizer.bundle, 0.001),
    )
    detector = Shown()
    recognition = RecognitionPipeline(detector, recognizer, gallery, CONFIG, QualityConfig(), TrackConfig())
    events: list[Event] = []
    for i in range(1, 2 * RATE):
        image, detector.faces = taken(i)
        events += recognition.see(Frame(image, i, i / RATE, time.monotonic())).events
    told = sorted((one.kind, one.track, one.identity.name if one.identity else None) for one in events)
    assert [one for one in told if one[0] != "appeared"] == [
        ("recognised", 1, "person 0"),
        ("recognised", 2, "person 1"),
        ("unknown", 3, None),
    ]


# Far faces


class Distant:
    """A detector of 320x240 that tells of the same faces as long as it is shown any part of a frame."""

    input = (240, 320)

    def __init__(self, points: list[np.ndarray]) -> None:
        self.points, self.passes = np.array(points, np.float32).reshape(-1, 5, 2), 0

    def detect(self, frame: np.ndarray) -> Faces:
        assert frame.shape == (240, 320, 3)
        self.passes += 1
        return Faces(self.points, np.full(len(self.points), 0.95, np.float32))


def test_with_reach_far_a_frame_is_two_passes_and_a_picture_all_tiles() -> None:
    image = np.full((720, 1280, 3), 100, np.uint8)
    for kind, passes in ((SourceKind.clip, 2), (SourceKind.live, 2), (SourceKind.pictures, 21)):
        detector = Distant([])
        recognition = RecognitionPipeline(
            *(detector, Colors({}), None, CONFIG, QualityConfig(), TrackConfig()), kind=kind, fps=25, reach=Reach.far
        )
        for i in range(3):
            assert not recognition.see(Frame(image, i, i / 25, time.monotonic())).sightings
        assert detector.passes == 3 * passes


def test_a_face_that_was_not_looked_for_is_still_there_but_no_view_of_it_is_measured() -> None:
    """Twelve far faces, of which five are looked at in a frame."""
    image = np.full((720, 1280, 3), 100, np.uint8)
    rng = np.random.default_rng(0)
    for i in range(12):
        x, y = 20 + 110 * i, 30 + 50 * i
        image[y : y + 32, x : x + 24] = rng.integers(180, 255, (32, 24, 3))

    class Bright(Distant):
        def detect(self, frame: np.ndarray) -> Faces:
            super().detect(frame)
            _, _, found, _ = cv2.connectedComponentsWithStats((frame.min(axis=2) > 150).astype(np.uint8))
            points = [
                (TEMPLATE - (20, 18)) * (w / 72) + (x, y)
                for x, y, w, h, _ in found[1:].tolist()
                if w >= 16 and min(x, y) > 0 and x + w < 320 and y + h < 240
            ]
            return Faces(np.array(points, np.float32).reshape(-1, 5, 2), np.full(len(points), 0.95, np.float32))

    measured: list[int] = []
    recognition = RecognitionPipeline(
        *(Bright([]), Colors({}), None, CONFIG, QualityConfig(), TrackConfig()), fps=25, reach=Reach.far
    )
    events: list[Event] = []
    for i in range(100):
        view = recognition.see(Frame(image, i, i / 25, time.monotonic()))
        events += view.events
        if i >= 25:
            assert len(view.sightings) == 12
            measured.append(sum(recognition._identities[one.track].measured == i / 25 for one in view.sightings))
    assert [one.kind for one in events] == 12 * ["appeared"]
    assert 0 < max(measured) < 12

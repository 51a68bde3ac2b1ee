from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.gallery.crops import decode_crops
from slimcam.deploy.gallery.enrollment import VIEWS, alike_people, lone_face, pictures, printable_note, templates, watch
from slimcam.deploy.gallery.gallery import Gallery, Template
from slimcam.deploy.gallery.people import NO_CONSENT, Person, Snapshot
from slimcam.deploy.gallery.review import resemblances, review
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import Frame
from slimcam.deploy.vision.align import TEMPLATE
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.quality import QualityConfig
from slimcam.training.data.recognition.synthetic import draw_face

RECOGNIZER = Path(__file__).parents[3] / "deploy/models/recognizer"
QUALITY = QualityConfig()
ALIKE = 0.3


class Marked:
    """A detector for pictures of `scene`: a face is where its mark is, a red pixel with the width in green."""

    def detect(self, frame: np.ndarray) -> Faces:
        rows, columns = np.nonzero((frame[..., 0] == 255) & (frame[..., 2] == 1))
        widths = frame[rows, columns, 1].astype(np.float32)
        points = [TEMPLATE * (width / 112) + (x, y) for x, y, width in zip(columns, rows, widths, strict=True)]
        return Faces(np.array(points, np.float32).reshape(-1, 5, 2), np.ones(len(points), np.float32))


def scene(*faces: tuple[np.ndarray, int]) -> np.ndarray:
    """Rendered crops beside each other, each of a width in pixels, up to 255."""
    picture = np.full((256, 256 * max(1, len(faces)), 3), 90, np.uint8)
    for i, (crop, width) in enumerate(faces):
        picture[:width, 256 * i : 256 * i + width] = cv2.resize(crop, (width, width))
        picture[0, 256 * i] = (255, width, 1)
    return picture


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return Recognizer(RECOGNIZER)


def test_a_template_is_the_embedding_of_the_aligned_face(recognizer: Recognizer) -> None:
    crop = draw_face(3, 0)
    (one,), notes = templates([("a.png", scene((crop, 112)))], Marked(), recognizer, QUALITY, keep_crops=True)
    assert (one.source, notes) == ("a.png", [])
    assert float(one.embedding @ recognizer.embed(crop[np.newaxis])[0]) > 0.99
    kept = decode_crops([one])
    np.testing.assert_array_equal(recognizer.embed(kept)[0], one.embedding)
    (again,), _ = templates([("a.png", scene((crop, 112)))], Marked(), recognizer, QUALITY)
    assert again.crop is None


def test_pictures_that_do_not_show_one_fit_face_are_left_out_with_a_note(recognizer: Recognizer) -> None:
    crop, other = draw_face(3, 0), draw_face(4, 0)
    images = [
        ("none", scene()),
        ("two", scene((crop, 200), (other, 180))),
        ("small", scene((crop, 20))),
        ("dark", scene((crop // 8, 200))),
        ("beside", scene((other, 80), (crop, 200))),
    ]
    taken, notes = templates(images, Marked(), recognizer, QUALITY)
    assert [one.source for one in taken] == ["beside"]
    assert float(taken[0].embedding @ recognizer.embed(crop[np.newaxis])[0]) > 0.9
    assert notes[:2] == ["none: no face in it", "two: several faces of about one size"]
    assert notes[2].startswith("small: the face is small")
    assert notes[3].startswith("dark: the face is dark")
    with pytest.raises(ValueError, match="no picture to enroll is left; none: no face in it; two: several"):
        templates(images[:2], Marked(), recognizer, QUALITY)


def frames(crops: list[np.ndarray], seconds: float) -> list[Frame]:
    return [Frame(scene((crop, 200)), i, i * seconds / len(crops), 0.0) for i, crop in enumerate(crops)]


def test_a_camera_gives_the_best_view_of_each_part_of_its_time(recognizer: Recognizer) -> None:
    crop = draw_face(3, 0)
    blurred = cv2.GaussianBlur(crop, (0, 0), 1)
    shown = frames([blurred, crop, blurred, blurred] * 10, 20.0)
    taken, notes = watch(shown, "cam", Marked(), recognizer, QUALITY, ALIKE)
    assert len(taken) == VIEWS
    assert [one.source for one in taken] == [f"cam, second {second}" for second in ("0.5", "2.5", "4.5", "6.5", "8.5")]
    assert not [note for note in notes if "no face" in note]


def test_a_camera_that_shows_several_people_or_nobody_enrols_nobody(recognizer: Recognizer) -> None:
    one, two = draw_face(3, 0), draw_face(4, 0)
    assert float(recognizer.embed(one[np.newaxis])[0] @ recognizer.embed(two[np.newaxis])[0]) < 0.8
    with pytest.raises(ValueError, match="more than one person"):
        watch(frames([one] * 5 + [two] * 5, 10.0), "cam", Marked(), recognizer, QUALITY, 0.8)
    empty = [Frame(scene(), i, float(i), 0.0) for i in range(3)]
    with pytest.raises(ValueError, match="cam: no frame to enroll is left; cam: 3 frames: no face in it"):
        watch(empty, "cam", Marked(), recognizer, QUALITY, ALIKE)


def test_files_and_folders_are_read_and_what_is_no_picture_is_noted(tmp_path: Path) -> None:
    folder = tmp_path / "anna"
    (folder / "deeper").mkdir(parents=True)
    good = cv2.imencode(".jpg", draw_face(1, 0))[1].tobytes()
    bomb = bytearray(cv2.imencode(".png", draw_face(1, 0))[1].tobytes())
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    for name, content in {
        "a.jpg": good,
        "b.jpg": good[: len(good) // 2],
        "c.png": bytes(bomb),
        "d.txt": b"hello",
        "e.jpg": b"",
        ".hidden": b"",
        "f\n\x1b[31m.jpg": b"x",
    }.items():
        (folder / name).write_bytes(content)
    notes: list[str] = []
    found = list(pictures([folder, folder / "a.jpg"], notes))
    assert [(name, image.shape) for name, image in found] == [("a.jpg", (112, 112, 3))] * 2
    assert len(notes) == 6
    assert all(note.isprintable() for note in notes)
    with pytest.raises(FileNotFoundError, match="no such picture or folder"):
        list(pictures([tmp_path / "gone"], notes))


def test_names_of_files_become_printable() -> None:
    assert printable_note("a\udc80\n.jpg") == "a??.jpg"
    assert len(printable_note("x" * 1000)) == 500
    assert printable_note("\n ") == "?"


def snapshot(rows: list[list[float]], owners: list[int]) -> Snapshot:
    people = tuple(Person(f"{i:032x}", f"P{i}", 1, 0.0, None, "rendered") for i in range(max(owners) + 1))
    embeddings = np.array(rows, np.float32)
    return Snapshot(1, people, embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True), np.array(owners))


def test_templates_that_resemble_somebody_else_are_told() -> None:
    known = snapshot([[1, 0, 0], [0, 1, 0], [0, 0, 1]], [0, 0, 1])
    probe = Template(np.array([0.8, 0, 0.6], np.float32), None, "x")
    assert [one.name for one, _ in alike_people([probe, probe], known, 0.5, None)] == ["P0"]
    # Not of the person themselves, but of the next best.
    assert [one.name for one, _ in alike_people([probe], known, 0.5, f"{0:032x}")] == ["P1"]
    assert alike_people([probe], known, 0.9, None) == []


def test_people_too_alike_pictures_twice_and_strays_are_found() -> None:
    known = snapshot(
        [[1, 0.1, 0, 0], [1, 0.1, 0, 0], [0, 0, 1, 0.1], [1, 0.2, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0.5]],
        [0, 0, 0, 1, 2, 2],
    )
    found = resemblances(known, 0.9, 0.3)
    assert [line.split(" (")[0] + line.split(")")[-1] for line in found] == [
        "P0 look alike, cosine 1.00: the same person twice?",
        "P0 look alike, cosine 1.00: the same person twice?",
        "P0: template 2 is of the same picture as one before",
        "P0: template 3 is unlike the others, cosine at most 0.00: somebody else?",
    ]
    assert f"P1 ({1:032x})" in found[0]
    assert f"P2 ({2:032x})" in found[1]


def test_a_review_names_the_expired_the_unasked_and_the_unfit(tmp_path: Path, recognizer: Recognizer) -> None:
    import time

    crop = draw_face(3, 0)
    taken, _ = templates([("a", scene((crop, 112)))], Marked(), recognizer, QUALITY, keep_crops=True)
    with Gallery(tmp_path / "data/g.db", "a" * 64, len(taken[0].embedding), tmp_path / "conf/key") as gallery:
        gallery.enroll("Anna", taken, consent="yes")
        assert review(gallery, 0.9, 0.3, QUALITY) == []
        expires = time.time() + 1
        gallery.enroll("Bob", taken, consent=NO_CONSENT, expires=expires)
        time.sleep(max(0.0, expires - time.time()) + 0.01)
        lines = review(gallery, 0.9, 0.3, QualityConfig(min_size=100))
    assert ["expired" in line for line in lines] == [True, False, False, False]
    assert "has no consent note" in lines[1]
    assert all("the face of a is small" in line for line in lines[2:])


def test_the_largest_face_counts() -> None:
    points, note = lone_face(scene((draw_face(3, 0), 100), (draw_face(4, 0), 200)), Marked(), QUALITY)
    assert points is not None
    assert note == ""
    assert points[0, 0] > 256

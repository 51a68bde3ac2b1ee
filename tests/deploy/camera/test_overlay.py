from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slimcam.deploy.camera import overlay
from slimcam.deploy.camera.overlay import KNOWN, UNDECIDED, UNKNOWN, annotated, label, place, printable
from slimcam.deploy.types import Frame, Identity, Sighting, View
from slimcam.deploy.vision.align import TEMPLATE, face_boxes
from slimcam.training.data.recognition.synthetic import draw_face

STRANGER = Identity(None, None, 0.2, 0.1)


def known(name: str | None) -> Identity:
    return Identity("p1", name, 0.7, 0.3)


def sighting(
    x: float,
    y: float,
    size: float,
    identity: Identity | None = None,
    quality_issues: tuple[str, ...] = (),
    track: int = 1,
) -> Sighting:
    points = (TEMPLATE - TEMPLATE.mean(axis=0)) * (size / 72) + (x, y)
    return Sighting(track, points.astype(np.float32), 0.9, quality_issues, identity)


def view(image: np.ndarray, *sightings: Sighting) -> View:
    return View(Frame(image, 0, 0.0, 0.0), sightings, (), {})


def grey(height: int = 360, width: int = 640) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def changed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before != after).any(axis=2)


def count(image: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((image == color).all(axis=2).sum())


def contrast(color: Sequence[int]) -> float:
    """Of black text on a color, WCAG 2.2."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in color)]
    return (float(np.dot(linear, (0.2126, 0.7152, 0.0722))) + 0.05) / 0.05


def test_a_face_gets_a_box_and_its_name_and_the_frame_stays_as_it_was() -> None:
    image = grey()
    image[124:236, 264:376] = draw_face(1, 0)
    before = image.copy()
    face = sighting(320, 180, 72, known("Ada"))
    after = annotated(image, view(image, face))
    np.testing.assert_array_equal(image, before)
    assert (after.shape, after.dtype) == (image.shape, np.uint8)
    ys, xs = np.nonzero(changed(before, after))
    x, y, width, height = face_boxes(face.points)[0]
    assert xs.min() == pytest.approx(x, abs=3)
    assert xs.max() == pytest.approx(x + width, abs=3)
    assert ys.max() == pytest.approx(y + height, abs=3)
    assert 15 < y - ys.min() < 30  # the name is above
    for point in np.rint(face.points).astype(int):
        assert tuple(after[point[1], point[0]]) == KNOWN


@pytest.mark.parametrize(
    ("identity", "color"), [(known("Ada"), KNOWN), (STRANGER, UNKNOWN), (None, UNDECIDED), (known(None), KNOWN)]
)
def test_the_color_tells_what_is_known(identity: Identity | None, color: tuple[int, int, int]) -> None:
    image = grey()
    after = annotated(image, view(image, sighting(320, 180, 72, identity)))
    assert count(after, color) > 500
    assert all(count(after, other) == 0 for other in {KNOWN, UNKNOWN, UNDECIDED} - {color})


def test_text_stands_out() -> None:
    assert min(contrast(color) for color in (KNOWN, UNKNOWN, UNDECIDED)) >= 11


def test_labels_say_the_name_unknown_or_the_track() -> None:
    assert label(sighting(0, 0, 9, known("Zoë"))) == "Zoë"
    assert label(sighting(0, 0, 9, STRANGER)) == "unknown"
    assert label(sighting(0, 0, 9, None, track=7)) == "#7"
    assert label(sighting(0, 0, 9, known(" \u200b"), track=8)) == "#8"


def test_flaws_take_a_second_line() -> None:
    image = grey()
    plain = annotated(image, view(image, sighting(320, 180, 72)))
    flawed = annotated(image, view(image, sighting(320, 180, 72, quality_issues=("small", "blurred"))))
    assert np.nonzero(changed(image, flawed))[0].min() <= np.nonzero(changed(image, plain))[0].min() - 10


@pytest.mark.parametrize(("height", "width"), [(360, 640), (1080, 1920), (1920, 1080)])
def test_labels_grow_with_the_frame(height: int, width: int) -> None:
    image = grey(height, width)
    after = annotated(image, view(image, sighting(width / 2, height / 2, 40)))
    box = face_boxes(sighting(width / 2, height / 2, 40).points)[0]
    label_height = box[1] - np.nonzero(changed(image, after))[0].min()
    assert label_height / np.sqrt(height * width) == pytest.approx(22 / 480, rel=0.2)


def test_a_view_is_drawn_into_its_frame_at_another_size() -> None:
    image = grey(720, 1280)
    small = grey(360, 640)
    face = sighting(1000, 200, 100, known("Ada"))
    after = annotated(small, view(image, face))
    for x, y in np.rint((face.points + 0.5) / 2 - 0.5).astype(int):
        assert tuple(after[y, x]) == KNOWN


def test_frames_that_are_views_of_others_are_drawn() -> None:
    image = grey()[:, ::-1, ::-1]
    assert count(annotated(image, view(image, sighting(320, 180, 72))), UNDECIDED) > 500


@pytest.mark.parametrize("corner", [(0, 0), (639, 0), (0, 359), (639, 359), (320, -500), (5000, 180)])
def test_a_label_stays_inside_the_frame(corner: tuple[int, int]) -> None:
    image = grey()
    for name in ("Ada", "A name that is far too long for any frame " * 20):
        after = annotated(image, view(image, sighting(*corner, 72, known(name), quality_issues=("small",))))
        # The label is the only large area in the color: all four of its sides must be there.
        mask = (after == KNOWN).all(axis=2) | (after < 60).all(axis=2)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
        widest = stats[1:][stats[1:, cv2.CC_STAT_AREA].argmax()]
        assert widest[cv2.CC_STAT_HEIGHT] >= 35
        assert widest[cv2.CC_STAT_WIDTH] >= (36 if name == "Ada" else 180)


FRAME = (640, 360)
EDGES = st.integers(-100, 700)
BOXES = st.tuples(EDGES, EDGES, st.integers(5, 200), st.integers(5, 200))


@settings(deadline=None)
@given(boxes=st.lists(BOXES, min_size=1, max_size=12), size=st.tuples(st.integers(10, 300), st.integers(10, 60)))
def test_every_place_is_inside_the_frame(boxes: list[tuple[int, int, int, int]], size: tuple[int, int]) -> None:
    labels: list[tuple[int, int, int, int]] = []
    for box in boxes:
        x, y, width, height = place(size, box, labels, np.array(boxes), FRAME)
        assert (width, height) == size
        assert 0 <= x <= FRAME[0] - width
        assert 0 <= y <= FRAME[1] - height
        labels.append((x, y, width, height))


def test_labels_keep_off_each_other() -> None:
    boxes = np.array([(100, 100, 70, 90), (150, 100, 70, 90), (205, 100, 70, 90)])
    labels: list[tuple[int, int, int, int]] = []
    for box in boxes.tolist():
        labels.append(place((120, 20), box, labels, boxes, FRAME))
    covered = np.zeros(FRAME[::-1], int)
    for x, y, width, height in labels:
        covered[y : y + height, x : x + width] += 1
    assert covered.max() == 1
    assert labels[0][:2] == (100, 80)


def test_a_label_larger_than_the_frame_starts_at_its_corner() -> None:
    assert place((900, 500), (10, 10, 5, 5), [], np.array([(10, 10, 5, 5)]), FRAME)[:2] == (0, 0)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ada\n \tLovelace ", "Ada Lovelace"),
        ("a\x00b\x1bc\ud800", "a?b?c?"),
        ("pre\u202eevil\u2066\u200d", "preevil"),
        ("Zoe\u0308", "Zoë"),
        ("שלום", "םולש"),
        ("Dr. דוד לוי, MD", "Dr. יול דוד, MD"),
        ("\u05d1\u05b0\u05d0", "\u05d0\u05d1\u05b0"),  # a vowel stays behind its letter
        ("x" * 500, "x" * 80),
        ("", ""),
    ],
)
def test_names_become_one_line(name: str, shown: str) -> None:
    assert printable(name) == shown


NAMES = st.text(st.characters(), max_size=100)  # surrogates and control characters too


@settings(max_examples=150, deadline=None)
@given(name=NAMES, x=st.floats(-1e4, 1e4), size=st.floats(1, 2000))
@example(name="\ud800\x00\n%s<script>", x=0.0, size=72.0)
@example(name="€" * 100, x=639.0, size=2000.0)
def test_any_name_is_drawn(name: str, x: float, size: float) -> None:
    image = grey()
    after = annotated(image, view(image, sighting(x, 180, size, known(name))))
    assert after.shape == image.shape
    assert count(after, KNOWN) > 200
    line = printable(name)
    assert not any(character in line for character in "\n\r\x0b\x0c\x1c\x85\u2028\u2029\x00\x1b")


def test_faces_that_are_nowhere_are_left_out() -> None:
    image = grey()
    nowhere = Sighting(1, np.full((5, 2), np.nan, np.float32), 0.9, (), None)
    np.testing.assert_array_equal(annotated(image, view(image, nowhere)), image)
    one_point = Sighting(2, np.full((5, 2), 50, np.float32), 0.9, (), None)
    assert count(annotated(image, view(image, nowhere, one_point)), UNDECIDED) > 50
    far = Sighting(3, np.full((5, 2), 3e38, np.float32), 0.9, (), None)
    assert annotated(image, view(image, far)).shape == image.shape


def test_tiny_and_narrow_frames_are_drawn() -> None:
    for height, width in ((1, 1), (3, 2000), (2000, 3), (40, 40)):
        image = grey(height, width)
        assert annotated(image, view(image, sighting(1, 1, 30, known("Ada"), ("small",)))).shape == image.shape


def test_fifty_faces_are_drawn() -> None:
    image = grey(1080, 1920)
    faces = [sighting(100 + 180 * (i % 10), 150 + 180 * (i // 10), 70, STRANGER, track=i + 1) for i in range(50)]
    assert count(annotated(image, view(image, *faces)), UNKNOWN) > 50 * 1000


def test_an_opencv_without_unicode_draws_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay, "_writer", overlay._ascii_writer)
    assert overlay._ascii("Zoë Müller-Ångström") == "Zoe Muller-Angstrom"
    assert overlay._ascii("山田 x") == "?? x"
    image = grey()
    after = annotated(image, view(image, sighting(320, 180, 72, known("Zoë 山田"), ("small",))))
    assert count(after, KNOWN) > 500


def test_pictures_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="gray"):
        annotated(np.zeros((10, 10), np.uint8), view(grey()))

from __future__ import annotations

from dataclasses import fields

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimcam.deploy.vision.align import TEMPLATE, face_sizes
from slimcam.deploy.vision.quality import (
    RENAMED_OPTIONS,
    Pose,
    QualityConfig,
    measure_view,
    pose,
    quality,
    quality_issues,
)
from slimcam.training.data.detection.rendered_faces import rendered_points
from slimcam.training.data.drawing.traits import sample_person, sample_shot
from slimcam.training.data.recognition.synthetic import draw_face

CONFIG = QualityConfig()
PLACE = np.array([150.0, 90.0])

HEAD = np.array(
    [(-0.5, 0.0, 0.0), (0.5, 0.0, 0.0), (0.0, 0.58, 0.52), (-0.42, 1.04, 0.05), (0.42, 1.04, 0.05)], np.float64
)
"""Eyes, nose and mouth corners in distances of the eyes: to the right, down, and towards the camera."""


def view(person: int = 0, shot: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A rendered face in a gray frame, and its points."""
    frame = np.full((360, 640, 3), 110, np.uint8)
    x, y = PLACE.astype(int)
    frame[y : y + 112, x : x + 112] = draw_face(person, shot)
    return frame, rendered_points(sample_person(person), sample_shot(person, shot)) + PLACE.astype(np.float32)


def seen(yaw: float, pitch: float, roll: float) -> np.ndarray:
    """The points of a head that looks somewhere, from afar; degrees to the right, downwards, clockwise."""
    y, p, r = np.radians([yaw, pitch, roll])
    about_vertical = np.array([(np.cos(y), 0, np.sin(y)), (0, 1, 0), (-np.sin(y), 0, np.cos(y))])
    about_level = np.array([(1, 0, 0), (0, np.cos(p), np.sin(p)), (0, -np.sin(p), np.cos(p))])
    in_plane = np.array([(np.cos(r), -np.sin(r)), (np.sin(r), np.cos(r))])
    return ((HEAD @ (about_level @ about_vertical).T)[:, :2] @ in_plane.T * 40 + (320, 180)).astype(np.float32)


def smaller(frame: np.ndarray, points: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    shape = np.array(frame.shape[1::-1])
    size = np.round(shape * width / face_sizes(points)[0]).astype(int)
    image = cv2.resize(frame, size.tolist(), interpolation=cv2.INTER_AREA)
    return image, ((points + 0.5) * (size / shape) - 0.5).astype(np.float32)


def test_sharp_faces_in_good_light_have_no_flaws() -> None:
    found = [quality_issues(*view(person, 1), CONFIG) for person in range(20)]
    assert sum(not words for words in found) >= 18


@pytest.mark.parametrize("person", range(8))
def test_blur_is_noticed(person: int) -> None:
    frame, points = view(person, 1)
    sharp = measure_view(frame, points)
    assert sharp.sharpness > CONFIG.min_sharpness
    scale = face_sizes(points)[0] / 72
    blurred = measure_view(cv2.GaussianBlur(frame, (0, 0), 3 * scale), points)
    assert "blurred" in blurred.quality_issues(CONFIG)
    assert blurred.quality < sharp.quality


@pytest.mark.parametrize("shape", [(1, 15), (15, 1)])
def test_motion_along_either_side_is_a_blur(shape: tuple[int, int]) -> None:
    frame, points = view(1, 1)
    moved = cv2.filter2D(frame, -1, np.full(shape, 1 / 15))
    assert quality_issues(moved, points, CONFIG) == ("blurred",)


def test_sharpness_does_not_depend_on_light() -> None:
    frame, points = view(1, 1)
    dimmed = np.round(frame * 0.6).astype(np.uint8)
    assert measure_view(dimmed, points).sharpness == pytest.approx(measure_view(frame, points).sharpness, rel=0.1)


@pytest.mark.parametrize(("width", "expected"), [(20.0, True), (23.0, True), (26.0, False), (60.0, False)])
def test_small_faces_are_called_small(width: float, expected: bool) -> None:
    image, points = smaller(*view(1, 1), width)
    assert ("small" in quality_issues(image, points, CONFIG)) == expected


def test_light_that_leaves_nothing_is_noticed() -> None:
    frame, points = view(1, 1)
    assert "dark" in quality_issues((frame * 0.15).astype(np.uint8), points, CONFIG)
    assert "bright" in quality_issues(np.clip(frame * 6.0, 0, 255).astype(np.uint8), points, CONFIG)
    assert "faint" in quality_issues((frame * 0.1 + 110).astype(np.uint8), points, CONFIG)
    assert quality_issues(np.full_like(frame, 128), points, CONFIG) == ("faint", "blurred")


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_faces_that_leave_the_frame_are_cut(side: str) -> None:
    frame, points = view(1, 1)
    x, y = points.mean(axis=0).round().astype(int)
    width = int(face_sizes(points)[0])
    for distance, expected in ((0.1 * width, True), (2 * width, False)):
        near = int(distance)
        if side == "left":
            image, place = frame[:, x - near :], points - (x - near, 0)
        elif side == "right":
            image, place = frame[:, : x + near], points
        elif side == "top":
            image, place = frame[max(0, y - near) :], points - (0, max(0, y - near))
        else:
            image, place = frame[: y + near], points
        assert ("cut" in quality_issues(np.ascontiguousarray(image), place.astype(np.float32), CONFIG)) == expected


def test_the_share_inside_is_that_of_the_box() -> None:
    points = TEMPLATE  # the box is x 20..92, y 18..110
    frame = np.zeros((300, 300, 3), np.uint8)
    assert measure_view(frame, points).inside == pytest.approx(1)
    # Pixel centers are at integers, so that a frame begins at -0.5.
    assert measure_view(frame, points - np.float32((56.5, 0))).inside == pytest.approx(0.5, abs=1e-3)
    assert measure_view(frame, points + np.float32((500, 0))).inside == 0


@pytest.mark.parametrize("roll", [-20, 0, 30])
@pytest.mark.parametrize("pitch", [-30, -10, 0, 10, 30])
@pytest.mark.parametrize("yaw", [-80, -50, -20, 0, 20, 50, 80])
def test_the_pose_of_a_head_is_found(yaw: float, pitch: float, roll: float) -> None:
    found = pose(seen(yaw, pitch, roll))
    # One angle is found well while the others are small.
    if abs(pitch) <= 10:
        assert found.yaw == pytest.approx(yaw, abs=12)
    if abs(yaw) <= 20:
        assert found.pitch == pytest.approx(pitch, abs=7)
        assert found.roll == pytest.approx(roll, abs=8)


def test_profiles_and_lying_faces_are_rejected_and_half_turned_ones_are_not() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    for yaw in (-85, -70, 70, 85):
        assert "turned" in quality_issues(frame, seen(yaw, 0, 0), CONFIG)
    for pitch in (-60, 60):
        assert "turned" in quality_issues(frame, seen(0, pitch, 0), CONFIG)
    for roll in (-80, 80, 180):
        assert quality_issues(frame, seen(0, 0, roll), CONFIG) == ("tilted",)
    for yaw, pitch, roll in ((30, 0, 0), (-30, 10, 0), (0, 25, 20), (10, -25, -30)):
        assert quality_issues(frame, seen(yaw, pitch, roll), CONFIG) == ()


def test_quality_ranks_views_of_a_face() -> None:
    frame, points = view(1, 1)
    best = quality(frame, points)
    assert 0.3 < best <= 1
    worse = [
        quality(cv2.GaussianBlur(frame, (0, 0), 2), points),
        quality((frame * 0.4).astype(np.uint8), points),
        quality(*smaller(frame, points, 30)),
    ]
    assert max(worse) < 0.9 * best
    noise = np.random.default_rng(0).integers(0, 255, (360, 640, 3), dtype=np.uint8)
    ranked = [quality(noise, seen(yaw, 0, 0)) for yaw in (0, 25, 45, 70)]
    assert ranked == sorted(ranked, reverse=True)


@given(
    points=st.lists(st.tuples(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32)), min_size=5, max_size=5)
)
@settings(max_examples=200, deadline=None)
def test_any_points_are_measured(points: list[tuple[float, float]]) -> None:
    frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    found = measure_view(frame, np.array(points, np.float32))
    assert 0 <= found.quality <= 1
    assert set(found.quality_issues(CONFIG)) <= {
        "small",
        "cut",
        "turned",
        "tilted",
        "dark",
        "bright",
        "faint",
        "blurred",
    }


@pytest.mark.parametrize("points", [np.zeros((5, 2)), np.full((5, 2), np.nan), TEMPLATE * [-1, 1]])
def test_points_that_are_no_face_are_small(points: np.ndarray) -> None:
    found = measure_view(np.zeros((48, 64, 3), np.uint8), points.astype(np.float32))
    assert "small" in found.quality_issues(CONFIG)
    assert found.quality == 0


def test_bad_input_is_refused_in_one_line() -> None:
    for frame, points in ((np.zeros((48, 64), np.uint8), TEMPLATE), (np.zeros((48, 64, 3), np.uint8), TEMPLATE[:4])):
        with pytest.raises(ValueError, match=r"gray|five points") as error:
            quality_issues(frame, points, CONFIG)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("min_size", 0),
        ("min_inside", 1.1),
        ("max_overexposed", -0.1),
        ("max_yaw_pitch", 0),
        ("max_roll", 200),
        ("min_brightness", 300),
        ("min_contrast", -1),
        ("min_sharpness", float("nan")),
    ],
)
def test_senseless_options_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"quality\.{field}"):
        QualityConfig(**{field: value})


def test_a_frontal_face_looks_at_the_camera() -> None:
    assert pose(seen(0, 0, 0)) == Pose(pytest.approx(0, abs=1), pytest.approx(0, abs=2), pytest.approx(0, abs=1))


def test_former_names_of_options_stand_for_present_ones() -> None:
    assert {field.name for field in fields(QualityConfig)} == set(RENAMED_OPTIONS.values())

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from slimcam.deploy.vision.align import CROP_SIZE, TEMPLATE, align, alignment, check_frame, face_boxes, face_sizes


def moved(turn: complex, shift: complex) -> np.ndarray:
    """The template, turned, scaled and shifted."""
    points = turn * (TEMPLATE[:, 0] + 1j * TEMPLATE[:, 1]) + shift
    return np.stack([points.real, points.imag], axis=1)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


@pytest.mark.parametrize("turn", [1, 0.2, 3 * np.exp(0.5j), 0.7 * np.exp(3j)])
def test_points_of_a_moved_template_are_brought_back_onto_it(turn: complex) -> None:
    points = moved(turn, 40 - 7j)
    np.testing.assert_allclose(apply(alignment(points), points), TEMPLATE, atol=1e-9)
    assert face_sizes(points[np.newaxis])[0] == pytest.approx(72 * abs(turn), rel=1e-6)


def test_the_transform_is_the_least_squares_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = moved(np.exp(rng.normal() + 1j * rng.normal()), 0) + rng.normal(0, 5, (5, 2))
        # The same as a linear problem in (a, b, x, y): u = a x - b y + tx, v = b x + a y + ty.
        (x, y), one, zero = points.T, np.ones(5), np.zeros(5)
        rows = np.concatenate([np.stack([x, -y, one, zero], 1), np.stack([y, x, zero, one], 1)])
        a, b, tx, ty = np.linalg.lstsq(rows, TEMPLATE.T.ravel().astype(float), rcond=None)[0]
        np.testing.assert_allclose(alignment(points), [[a, -b, tx], [b, a, ty]], atol=1e-6)


def test_dots_at_the_points_land_on_the_template() -> None:
    points = moved(1.6 * np.exp(0.3j), 60 + 20j)
    frame = np.zeros((300, 400, 3), np.uint8)
    for i, (x, y) in enumerate(points):
        dot = np.zeros((300, 400), np.uint8)
        cv2.circle(dot, (round(x * 16), round(y * 16)), 4 * 16, 255, -1, cv2.LINE_AA, 4)
        frame[..., i % 3] |= dot
    for size in (112, 56, 160):
        crop = align(frame, points, size)
        assert (crop.shape, crop.dtype) == ((size, size, 3), np.uint8)
        expected = (TEMPLATE + 0.5) * (size / CROP_SIZE) - 0.5
        ys, xs = np.mgrid[0:size, 0:size]
        for i, (x, y) in enumerate(expected):
            # Two dots share a channel in places: only what is near counts.
            weight = crop[..., i % 3] * (np.hypot(xs - x, ys - y) < 8 * size / CROP_SIZE)
            center = (np.sum(xs * weight) / weight.sum(), np.sum(ys * weight) / weight.sum())
            assert np.hypot(*np.subtract(center, (x, y))) < 0.15


def test_a_crop_that_leaves_the_frame_is_black_there() -> None:
    frame = np.full((112, 112, 3), 200, np.uint8)
    crop = align(frame, TEMPLATE + np.array([-56, 0]))
    assert (crop[:, 57:] == 200).all()
    assert (crop[:, :55] == 0).all()
    assert not align(frame, TEMPLATE + 1e5).any()


def test_an_aligned_face_is_left_as_it_is() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)
    assert np.array_equal(align(frame, TEMPLATE), frame)


def test_the_frame_may_be_a_view() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    view = frame[::2, ::-1, ::-1]
    assert np.array_equal(align(view, TEMPLATE), align(view.copy(), TEMPLATE))


def test_boxes_are_those_of_the_template_rectangle() -> None:
    upright = moved(2, 10 - 30j)
    turned = moved(1j, 0)  # a quarter turn: (x, y) goes to (-y, x)
    boxes = face_boxes(np.stack([upright, turned]))
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[50, 6, 144, 184], [-110, 20, 92, 72]], atol=1e-3)
    slanted = face_boxes(moved(np.exp(1j * np.pi / 4), 0)[np.newaxis])[0]
    np.testing.assert_allclose(slanted[2:], np.full(2, (72 + 92) / np.sqrt(2)), atol=1e-3)


def test_size_is_that_of_the_template_brought_onto_the_points() -> None:
    narrow = TEMPLATE * np.array([0.5, 1])  # a head turned aside
    (size,) = face_sizes(narrow[np.newaxis])
    matrix = alignment(narrow)
    assert size < 72 / np.hypot(*matrix[:, 0])
    # It minimizes the distance on the frame's side.
    centered, wanted = TEMPLATE - TEMPLATE.mean(0), narrow - narrow.mean(0)
    errors = {k: np.sum((k * centered - wanted) ** 2) for k in (size / 72 * 0.99, size / 72, size / 72 * 1.01)}
    assert min(errors, key=lambda k: errors[k]) == size / 72


def test_no_faces_have_no_boxes_and_points_that_coincide_no_size() -> None:
    assert face_boxes(np.empty((0, 5, 2))).shape == (0, 4)
    assert face_sizes(np.empty((0, 5, 2))).shape == (0,)
    assert face_sizes(np.full((1, 5, 2), 7.0))[0] == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(face_boxes(np.full((1, 5, 2), 7.0)), [[7, 7, 0, 0]], atol=1e-9)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (np.full((5, 2), 3.0), "coincide"),
        (np.full((5, 2), 3.0) + np.arange(10).reshape(5, 2) * 1e-6, "coincide"),
        (np.where(np.arange(10).reshape(5, 2) == 4, np.nan, TEMPLATE), "five finite points"),
        (np.where(np.arange(10).reshape(5, 2) == 4, np.inf, TEMPLATE), "five finite points"),
        (TEMPLATE[:4], "five finite points"),
        (TEMPLATE[np.newaxis], "five finite points"),
        (TEMPLATE.astype(float) * 1e200, "do not lie as those of a face"),
    ],
)
def test_points_that_cannot_be_aligned_are_refused_in_one_line(points: np.ndarray, reason: str) -> None:
    for call in (lambda: alignment(points), lambda: align(np.zeros((9, 9, 3), np.uint8), points)):
        with pytest.raises(ValueError, match=reason) as error:
            call()
        assert "\n" not in str(error.value)


def test_points_that_no_turn_brings_nearer_are_refused() -> None:
    # Their correlation with the template is zero in x and y: a mirrored, squeezed face.
    x, y = (TEMPLATE - TEMPLATE.mean(0)).T.astype(float)
    skew = np.stack([x, y, -y, x], 0).reshape(2, 2, 5)  # what turning and scaling the template can reach
    basis = np.concatenate([skew[0].T.ravel()[:, np.newaxis], skew[1].T.ravel()[:, np.newaxis]], axis=1)
    means = np.tile(np.eye(2), (5, 1))
    other = np.random.default_rng(0).normal(0, 20, 10)
    span = np.concatenate([basis, means], axis=1)
    other -= span @ np.linalg.lstsq(span, other, rcond=None)[0]
    with pytest.raises(ValueError, match="do not lie as those of a face"):
        alignment(other.reshape(5, 2))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (None, "NoneType: was the picture read"),
        ([[1, 2, 3]], "list: was the picture read"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((4, 4, 0), np.uint8), "empty"),
        (np.zeros((4, 5), np.uint8), "COLOR_GRAY2RGB"),
        (np.zeros((4, 5, 1), np.uint8), "COLOR_GRAY2RGB"),
        (np.zeros((4, 5, 4), np.uint8), "must be uint8 RGB"),
        (np.zeros((4, 5, 3), np.float32), "must be uint8 RGB of shape .* got float32"),
        (np.zeros((1, 4, 5, 3), np.uint8), "must be uint8 RGB"),
        (np.zeros((1, 40000, 3), np.uint8), "up to 32766 pixels a side"),
    ],
)
def test_other_frames_are_refused_in_one_line(frame: Any, reason: str) -> None:
    for call in (lambda: check_frame(frame), lambda: align(frame, TEMPLATE)):
        with pytest.raises(ValueError, match=reason) as error:
            call()
        assert "\n" not in str(error.value)


def test_an_aligned_face_has_a_size() -> None:
    with pytest.raises(ValueError, match="1 or more; got 0"):
        align(np.zeros((9, 9, 3), np.uint8), TEMPLATE, 0)
    assert align(np.zeros((1, 1, 3), np.uint8), TEMPLATE, 1).shape == (1, 1, 3)

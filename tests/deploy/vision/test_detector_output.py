from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from slimcam.deploy.vision.align import TEMPLATE, face_boxes, face_sizes
from slimcam.deploy.vision.detector_output import (
    CANDIDATES,
    CHANNELS,
    SCORE_EXPONENT,
    Faces,
    cell_centers,
    decode_faces,
    vote_boxes,
)

CENTERED = TEMPLATE.astype(np.float64) - TEMPLATE.mean(axis=0)


def face(x: float, y: float, size: float) -> np.ndarray:
    return CENTERED * (size / 72) + (x, y)


def nothing(height: int, width: int) -> np.ndarray:
    rows = np.zeros((len(cell_centers(height, width)), CHANNELS), np.float32)
    rows[:, 0] = -8
    return rows


def tell(rows: np.ndarray, cell: int, center: tuple[float, float], points: np.ndarray, logit: float) -> None:
    """Writes into a row that its cell, with this center, sees this face."""
    size = float(face_sizes(points[np.newaxis])[0])
    rows[cell, :2] = logit, 2 * np.log2(size / 64)
    rows[cell, 2:] = (8 * (points - center) / size).ravel()


def test_the_cells_are_three_maps_row_by_row() -> None:
    centers = cell_centers(60, 100)  # 8 x 13, 4 x 7 and 2 x 4: the last of a row or column may be cut
    assert centers.shape == (104 + 28 + 8, 2)
    assert centers[[0, 1, 13]].tolist() == [[3.5, 3.5], [11.5, 3.5], [3.5, 11.5]]
    assert centers[[104, 105, 111]].tolist() == [[7.5, 7.5], [23.5, 7.5], [7.5, 23.5]]
    assert centers[[132, 139]].tolist() == [[15.5, 15.5], [111.5, 47.5]]
    assert len(cell_centers(240, 320)) == 1580


def test_a_row_becomes_the_face_that_its_numbers_say() -> None:
    rows = nothing(64, 96)  # 8 x 12, 4 x 6, 2 x 3 cells
    # Stride 16, cell (1, 2): its center is (39.5, 23.5). Size 128 px, so 8 is 128 px.
    rows[96 + 6 + 2] = [np.log(3), 2, -1, -1, 1, -1, 0, 0, -1, 1, 8, -8]
    faces = decode_faces(rows, 64, 96, 0.5)
    assert (faces.points.dtype, faces.scores.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(
        faces.points[0], [[23.5, 7.5], [55.5, 7.5], [39.5, 23.5], [23.5, 39.5], [167.5, -104.5]], atol=1e-4
    )
    np.testing.assert_allclose(faces.scores, [0.75], rtol=1e-6)


@pytest.mark.parametrize(
    ("cell", "center", "found"),
    [
        (0, (3.5, 3.5), face(2, 1, 20)),  # cut by the upper left border
        (1199, (315.5, 235.5), face(318, 239, 30)),  # by the lower right one
        (1200, (7.5, 7.5), face(10, 12, 64)),
        (1579, (303.5, 239.5), face(290, 200, 230)),
    ],
)
def test_faces_at_the_borders_keep_their_points_outside(
    cell: int, center: tuple[float, float], found: np.ndarray
) -> None:
    assert cell_centers(240, 320)[cell].tolist() == list(center)
    rows = nothing(240, 320)
    tell(rows, cell, center, found, 2)
    faces = decode_faces(rows, 240, 320, 0.5)
    np.testing.assert_allclose(faces.points, found[np.newaxis], atol=1e-3)
    np.testing.assert_allclose(faces.sizes, face_sizes(found[np.newaxis]), rtol=1e-4)
    np.testing.assert_allclose(faces.boxes, face_boxes(found[np.newaxis]), atol=1e-3)


def test_only_rows_from_the_threshold_on_count() -> None:
    rows = nothing(240, 320)
    for i, logit in enumerate((-1.0, 0.0, 1.0)):
        tell(rows, 1200 + 8 * i, (7.5 + 128 * i, 7.5), face(8 + 128 * i, 8, 40), logit)
    assert len(decode_faces(rows, 240, 320, 0.8)) == 0
    assert len(decode_faces(rows, 240, 320, 0.6)) == 1
    assert len(decode_faces(rows, 240, 320, 0.5)) == 2
    assert len(decode_faces(rows, 240, 320, 0.2)) == 3
    scores = decode_faces(rows, 240, 320, 0.2).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-1.0, 0.0, 1.0])), rtol=1e-6)


def test_no_face_is_an_empty_answer() -> None:
    faces = decode_faces(nothing(240, 320), 240, 320, 0.5)
    assert (faces.points.shape, faces.scores.shape) == ((0, 5, 2), (0,))
    assert (faces.boxes.shape, faces.sizes.shape, len(faces)) == ((0, 4), (0,), 0)


def test_numbers_that_are_none_are_not_faces() -> None:
    rows = nothing(240, 320)
    for cell, channel, value in ((3, 0, np.nan), (40, 1, np.nan), (90, 5, np.inf), (700, 2, -np.inf)):
        rows[cell, 0] = 4
        rows[cell, channel] = value
    tell(rows, 1200, (7.5, 7.5), face(8, 8, 40), np.inf)
    faces = decode_faces(rows, 240, 320, 0.5)
    assert faces.scores.tolist() == [1.0]
    np.testing.assert_allclose(faces.points, face(8, 8, 40)[np.newaxis], atol=1e-3)


def test_absurd_sizes_stay_finite() -> None:
    rows = nothing(240, 320)
    rows[[3, 1500], :2] = [[4, 1e6], [4, -1e6]]
    rows[[3, 1500], 2:] = 1e3 * CENTERED.ravel()
    assert np.isfinite(decode_faces(rows, 240, 320, 0.5).boxes).all()


@pytest.mark.parametrize("shape", [(1579, 12), (1580, 13), (1, 1580, 12)])
def test_an_output_that_does_not_fit_the_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="1580 cells of 12 channels"):
        decode_faces(np.zeros(shape, np.float32), 240, 320, 0.5)


def test_detections_of_one_face_are_averaged_by_how_sure_they_are() -> None:
    points = np.stack([face(100, 100, 60), face(104, 98, 66)])
    faces = vote_boxes(points, np.array([0.9, 0.6]))
    share = 0.9**SCORE_EXPONENT / (0.9**SCORE_EXPONENT + 0.6**SCORE_EXPONENT)
    np.testing.assert_allclose(faces.points, [share * points[0] + (1 - share) * points[1]], rtol=1e-6)
    np.testing.assert_allclose(faces.scores, [0.9], rtol=1e-6)


def test_faces_apart_stay_apart_and_best_first() -> None:
    points = np.stack([face(200, 100, 60), face(60, 50, 20), face(201, 101, 60), face(240, 100, 60), face(61, 50, 20)])
    faces = vote_boxes(points, np.array([0.9, 0.8, 0.7, 0.6, 0.5]))
    np.testing.assert_allclose(faces.scores, [0.9, 0.8, 0.6], rtol=1e-6)
    centers = faces.points.mean(axis=1)
    moved = [
        second**SCORE_EXPONENT / (first**SCORE_EXPONENT + second**SCORE_EXPONENT)
        for first, second in ((0.9, 0.7), (0.8, 0.5))
    ]
    np.testing.assert_allclose(centers[:, 0], [200 + moved[0], 60 + moved[1], 240], rtol=1e-6)


def test_only_what_overlaps_the_best_one_is_its_own() -> None:
    # Boxes are 72 x 92. The second overlaps the first by half, the third the second but not the first.
    points = np.stack([face(100, 100, 72), face(124, 100, 72), face(148, 100, 72)])
    boxes = face_boxes(points)
    np.testing.assert_allclose(boxes[:, 2], 72, rtol=1e-4)
    faces = vote_boxes(points, np.array([0.9, 0.8, 0.7]))
    assert len(faces) == 2
    np.testing.assert_allclose(faces.points[1], points[2], rtol=1e-6)
    # With the middle one best, all three are one.
    assert len(vote_boxes(points[[1, 0, 2]], np.array([0.9, 0.8, 0.7]))) == 1


def test_a_face_inside_a_much_larger_one_is_another() -> None:
    assert len(vote_boxes(np.stack([face(100, 100, 200), face(100, 100, 80)]), np.array([0.9, 0.8]))) == 2


def test_a_face_of_another_size_in_the_same_place_is_the_same() -> None:
    faces = vote_boxes(np.stack([face(100, 100, 90), face(104, 96, 52)]), np.array([0.9, 0.8]))
    np.testing.assert_allclose(faces.points, [face(100, 100, 90)], rtol=1e-5)
    assert len(vote_boxes(np.stack([face(104, 96, 52), face(100, 100, 90)]), np.array([0.9, 0.8]))) == 1


def test_detections_without_area_end_as_faces_of_their_own() -> None:
    faces = vote_boxes(np.full((3, 5, 2), 9.0), np.array([0.9, 0.8, 0.7]))
    assert len(faces) == 3
    np.testing.assert_allclose(faces.sizes, 0, atol=1e-9)


def test_blending_agrees_with_one_face_at_a_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = np.stack([face(*rng.uniform(0, 200, 2), rng.uniform(20, 90)) for _ in range(60)])
        scores = np.sort(rng.uniform(0.1, 1, 60))[::-1]
        pending, expected = list(range(60)), []
        while pending:
            one = face_boxes(points[pending[:1]])[0]
            found = {i: overlap(one, face_boxes(points[i : i + 1])[0]) for i in pending}
            same = [i for i in pending if found[i][0] >= 0.45]
            expected.append(np.average(points[same], axis=0, weights=scores[same] ** SCORE_EXPONENT))
            pending = [i for i in pending if i not in same and not (found[i][1] >= 0.6 and found[i][2] <= 4)]
        np.testing.assert_allclose(vote_boxes(points, scores).points, expected, rtol=1e-5)


def overlap(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Intersection over union, the share of the smaller box, and how many times larger the other is."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    small, large = sorted((one[2] * one[3], other[2] * other[3]))
    return float(shared / (small + large - shared)), float(shared / small), float(large / small)


def test_a_frame_that_is_all_faces_takes_bounded_work() -> None:
    rows = np.zeros((len(cell_centers(480, 640)), CHANNELS), np.float32)  # 6,300 cells, all of them sure
    rows[:, 1] = -8
    rows[:, 2:] = (8 / 72 * CENTERED).ravel()
    rows[:, 0] = 4 + np.arange(len(rows)) / len(rows)
    decode_faces(rows, 480, 640, 0.5)
    tracemalloc.start()
    faces = decode_faces(rows, 480, 640, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(faces) == CANDIDATES
    np.testing.assert_allclose(faces.points[0].mean(axis=0), cell_centers(480, 640)[-1], atol=1e-3)
    assert peak < 16e6


def test_faces_need_a_score_each() -> None:
    with pytest.raises(ValueError, match=r"points \(N, 5, 2\) and scores \(N,\)"):
        Faces(np.zeros((2, 5, 2), np.float32), np.zeros(3, np.float32))

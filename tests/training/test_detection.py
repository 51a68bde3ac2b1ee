"""Faces as five points: geometry, what a detector learns, and its metrics, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from deploy.vision.align import TEMPLATE, face_boxes, face_sizes, similarity
from training.data.detection.points import mirrored
from training.detection import average_precision, cells, encode, found_at, landmark_error, match, recall_at
from training.tasks.bootstrap import paired_bootstrap

HEIGHT, WIDTH = 240, 320
NOTHING = np.zeros((0, 5, 2), np.float32)


def face(size, x, y, degrees=0.0):
    """A face of the template's form whose centre is at (x, y)."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((TEMPLATE - TEMPLATE.mean(axis=0)) @ turn.T * size / 72 + (x, y)).astype(np.float32)


def row_of(stride, i, j):
    """The row of a cell of a map."""
    before = {8: 0, 16: 30 * 40, 32: 30 * 40 + 15 * 20}[stride]
    return before + i * -(-WIDTH // stride) + j


def test_size_and_box_are_those_of_the_contract():
    np.testing.assert_allclose(face_sizes(TEMPLATE), [72], rtol=1e-6)
    np.testing.assert_allclose(face_boxes(TEMPLATE), [[20, 18, 72, 92]], atol=1e-4)
    np.testing.assert_allclose(face_sizes(TEMPLATE * 2 + 5), [144], rtol=1e-6)
    np.testing.assert_allclose(face_boxes(face(72, 100, 100, 90))[0, 2:], [92, 72], atol=1e-4)
    assert face_sizes(NOTHING).shape == (0,)
    assert face_boxes(NOTHING).shape == (0, 4)
    assert face_sizes(np.full((5, 2), 3.0))[0] < 1e-6


def test_a_similarity_is_the_best_one():
    noisy = face(50, 80, 90, 33) + np.random.default_rng(0).normal(0, 2, (5, 2))
    matrix = similarity(TEMPLATE, noisy)

    def off(m):
        return float(np.sum((TEMPLATE @ m[:, :2].T + m[:, 2] - noisy) ** 2))

    for change in np.random.default_rng(1).normal(0, 1e-2, (50, 4)):
        a, b, x, y = change
        assert off(matrix + np.array([[a, -b, x], [b, a, y]])) >= off(matrix)


def test_the_mirror_image_of_a_face_is_a_face():
    points = face(40, 100, 60, 20)
    there = mirrored(points, WIDTH)
    np.testing.assert_allclose(there, face(40, WIDTH - 1 - 100, 60, -20), atol=0.5)
    assert there[0, 0] < there[1, 0]
    np.testing.assert_allclose(mirrored(there, WIDTH), points, atol=1e-4)


def test_cells_come_map_by_map_and_row_by_row():
    centres, strides = cells(HEIGHT, WIDTH)
    assert len(centres) == 30 * 40 + 15 * 20 + 8 * 10
    np.testing.assert_array_equal(centres[row_of(8, 0, 1)], [11.5, 3.5])
    np.testing.assert_array_equal(centres[row_of(16, 1, 0)], [7.5, 23.5])
    np.testing.assert_array_equal(centres[row_of(32, 7, 9)], [303.5, 239.5])
    assert np.bincount(strides)[[8, 16, 32]].tolist() == [1200, 300, 80]


def test_a_picture_without_a_face_is_all_negative():
    targets = encode(NOTHING, HEIGHT, WIDTH)
    assert targets.shape == (1580, 13)
    assert set(targets[:, 0]) == {-8}
    assert not targets[:, 1:].any()


def test_what_is_encoded_gives_the_points_back():
    points = np.stack([face(20, 60, 60, 15), face(60, 200, 90, -30), face(180, 160, 130, 5)])
    targets = encode(points, HEIGHT, WIDTH)
    centres, _ = cells(HEIGHT, WIDTH)
    positive = targets[:, 12] == 1
    assert set(targets[positive, 0]) == {8}
    assert set(targets[~positive, 0]) == {-8}
    assert not targets[~positive, 1:12].any()
    sizes = 64 * 2 ** (targets[positive, 1] / 2)
    decoded = centres[positive, None] + targets[positive, 2:12].reshape(-1, 5, 2) * sizes[:, None, None] / 8
    off = np.abs(decoded[:, None] - points[None]).max(axis=(2, 3))
    assert off.min(axis=1).max() < 1e-3
    assert set(off.argmin(axis=1)) == {0, 1, 2}
    assert np.abs(targets[:, 1:12]).max() < 8


@pytest.mark.parametrize(
    ("size", "positive", "negative"),
    [
        (20, {8}, {16, 32}),
        (36, {8, 16}, {32}),
        (45, {8, 16}, {32}),
        (60, {16}, {8, 32}),
        (90, {16, 32}, {8}),
        (200, {32}, {8, 16}),
    ],
)
def test_a_face_is_found_by_the_maps_of_its_size(size, positive, negative):
    targets = encode(face(size, 163.5, 123.5), HEIGHT, WIDTH)
    strides = cells(HEIGHT, WIDTH)[1]
    assert set(strides[targets[:, 12] == 1].tolist()) == positive
    assert not set(strides[targets[:, 12] == 1].tolist()) & negative


def test_cells_about_the_centre_are_positive_those_around_are_not_judged():
    # 63.5, 63.5 is where four cells of the map of stride 16 meet, and the size belongs to that map alone.
    targets = encode(face(64, 63.5, 63.5), HEIGHT, WIDTH)
    centres, strides = cells(HEIGHT, WIDTH)
    away = np.hypot(*(centres - 63.5).T) / 64
    own = strides == 16
    np.testing.assert_array_equal(targets[:, 12] == 1, own & (away <= 0.25))
    assert np.sum(targets[:, 12] == 1) == 4
    # Half the size, 32, suits stride 8 and twice, 128, suits stride 32.
    np.testing.assert_array_equal(targets[:, 12] == -1, (away <= 0.45) & ~(own & (away <= 0.25)))


def test_maps_of_quite_other_sizes_have_to_say_no():
    targets = encode(face(18, 63.5, 63.5), HEIGHT, WIDTH)
    strides = cells(HEIGHT, WIDTH)[1]
    assert set(strides[targets[:, 12] != 0].tolist()) == {8}
    targets = encode(face(200, 163.5, 123.5), HEIGHT, WIDTH)
    assert set(strides[targets[:, 12] != 0].tolist()) == {32}


def test_the_nearest_cell_is_positive_however_small_the_face():
    # As far from the centres of cells as can be: 5.66 pixels.
    targets = encode(face(5, 63.5, 63.5), HEIGHT, WIDTH)
    assert np.sum(targets[:, 12] == 1) == 1
    for corner in ((0, 0), (WIDTH - 1, HEIGHT - 1)):
        targets = encode(face(16, *corner), HEIGHT, WIDTH)
        assert np.sum(targets[:, 12] == 1) >= 1


def test_a_small_face_before_a_large_one_keeps_its_cell():
    large, small = face(48, 100, 100), face(14, 95, 101)
    for points in (np.stack([large, small]), np.stack([small, large])):
        targets = encode(points, HEIGHT, WIDTH)
        sizes = np.round(64 * 2 ** (targets[targets[:, 12] == 1, 1] / 2))
        assert {14, 48} == set(sizes.tolist())


def test_cells_about_a_face_centred_outside_are_not_judged():
    targets = encode(face(60, -3, 100), HEIGHT, WIDTH)
    assert not np.any(targets[:, 12] == 1)
    assert np.any(targets[:, 12] == -1)


@pytest.mark.parametrize(("points", "said"), [(np.full((5, 2), np.nan), "not finite"), (np.ones((5, 2)), "coincide")])
def test_points_that_are_no_face_are_refused(points, said):
    with pytest.raises(ValueError, match=said):
        encode(points, HEIGHT, WIDTH)


def test_finds_are_assigned_best_score_first_and_once():
    truth = np.stack([face(40, 100, 100), face(40, 200, 100)])
    found = np.stack([face(40, 102, 100), face(40, 100, 100), face(40, 200, 101), face(40, 50, 50)])
    result = match(found, np.array([0.9, 0.8, 0.7, 0.95]), truth)
    np.testing.assert_allclose(result.scores, [0.95, 0.9, 0.8, 0.7])
    assert result.truth.tolist() == [-1, 0, -1, 1]
    np.testing.assert_array_equal(np.isnan(result.errors), [True, False, True, False])
    eyes = np.linalg.norm(truth[0, 0] - truth[0, 1])
    np.testing.assert_allclose(result.errors[[1, 3]], [100 * 2 / eyes, 100 / eyes], rtol=1e-4)


def test_half_of_the_union_of_two_boxes_has_to_be_shared():
    # Boxes 72 wide that are a third of it, 24, apart share 48 of 96.
    truth = face(72, 100, 100)
    assert match(truth[None] + (23.9, 0), np.ones(1), truth).truth.tolist() == [0]
    assert match(truth[None] + (24.1, 0), np.ones(1), truth).truth.tolist() == [-1]


def test_nothing_found_and_nothing_there():
    assert match(NOTHING, np.zeros(0), TEMPLATE).truth.shape == (0,)
    assert match(TEMPLATE, np.ones(1), NOTHING).truth.tolist() == [-1]
    assert match(np.zeros((1, 5, 2)), np.ones(1), TEMPLATE).truth.tolist() == [-1]
    with pytest.raises(ValueError, match="1 faces found, but 2 scores"):
        match(TEMPLATE, np.ones(2), TEMPLATE)


def picture(truth, *found):
    """A match of finds (face, score)."""
    points = np.stack([points for points, _ in found]) if found else NOTHING
    there = np.stack(truth) if truth else NOTHING
    return match(points, np.array([score for _, score in found]), there)


A, B, C, NOWHERE = face(20, 50, 50), face(40, 150, 100), face(100, 250, 150), face(30, 30, 200)


def test_average_precision_by_hand():
    # True, false, true, and a third face that is not found: precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3.
    pictures = [picture([A, B], (A, 0.9), (NOWHERE, 0.8)), picture([C]), picture([], (NOWHERE, 0.1))]
    pictures[1] = picture([C], (C, 0.7))
    assert average_precision(pictures) == pytest.approx(1 / 3 + 2 / 3 / 3)
    assert average_precision([picture([A], (A, 0.5))]) == 1
    assert average_precision([picture([A])]) == 0
    assert average_precision([picture([], (A, 0.5))]) is None


def test_finds_of_equal_score_count_together():
    pictures = [picture([A], (A, 0.5)), picture([], (NOWHERE, 0.5))]
    assert average_precision(pictures) == average_precision(pictures[::-1]) == 0.5


def test_average_precision_of_some_sizes_leaves_the_others_out():
    pictures = [picture([A, B], (B, 0.9), (NOWHERE, 0.8), (A, 0.7))]
    assert average_precision(pictures, (16, 32)) == 0.5
    assert average_precision(pictures, (32, 64)) == 1
    assert average_precision(pictures, (64, np.inf)) is None


def test_recall_at_a_number_of_false_finds_by_hand():
    pictures = [
        picture([A, B], (A, 0.9), (NOWHERE, 0.8), (B, 0.75)),
        picture([C], (C, 0.7), (NOWHERE, 0.6)),
    ]
    none, half, one = (recall_at(pictures, fppi) for fppi in (0, 0.5, 1))
    assert none.found.tolist() == [True, False, False]
    assert half.found.tolist() == [True, True, True]
    assert half.false_positives.tolist() == [1, 0]
    assert 0.6 < half.threshold < 0.7
    assert one.threshold == -np.inf
    assert half.scenes.tolist() == [0, 0, 1]
    assert none.by_size() == {"16-32": 1.0, "32-64": 0.0, "64+": 0.0, "24+": 0.0}
    assert none.share((300, 400)) is None
    assert none.share() == pytest.approx(1 / 3)


def test_a_find_scored_like_one_false_find_too_many_is_not_accepted():
    pictures = [picture([A], (A, 0.5), (NOWHERE, 0.5))]
    assert recall_at(pictures, 0).found.tolist() == [False]
    assert recall_at(pictures, 0).false_positives.tolist() == [0]
    with pytest.raises(ValueError, match="a picture"):
        recall_at([], 0.1)


def test_two_detectors_compare_face_by_face():
    good = recall_at([picture([A, B], (A, 0.9), (B, 0.8)), picture([C], (C, 0.7))], 0.1)
    poor = recall_at([picture([A, B], (A, 0.9)), picture([C], (C, 0.7))], 0.1)
    interval = paired_bootstrap(poor.found, good.found)
    assert interval.difference == pytest.approx(-1 / 3)
    assert interval.low <= interval.difference <= interval.high


def test_landmark_error_is_of_the_faces_found():
    moved = B.copy()
    moved[2] += (0, 5)
    eyes = np.linalg.norm(B[0] - B[1])
    pictures = [picture([A, B], (A + np.float32(0.5), 0.9), (moved, 0.8)), picture([C], (NOWHERE, 0.3))]
    error = landmark_error(found_at(pictures, 0.0), (32, 64))
    assert error is not None
    assert error.faces == 1
    assert error.mean == error.median == pytest.approx(100 * 1 / eyes, rel=1e-4)
    both = landmark_error(found_at(pictures, 0.0))
    assert both is not None
    assert both.faces == 2
    assert landmark_error(found_at(pictures, 0.95)) is None
    assert np.isnan(found_at(pictures, 0.0).errors).tolist() == [False, False, True]

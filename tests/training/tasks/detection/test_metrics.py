"""The metrics of detectors, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.vision.align import TEMPLATE, face_boxes
from slimcam.training.tasks.bootstrap import paired_bootstrap
from slimcam.training.tasks.detection.metrics import (
    average_precision,
    found_at,
    landmark_error,
    match,
    match_boxes,
    recall_at,
)

NOTHING = np.zeros((0, 5, 2), np.float32)
NO_BOX = np.zeros((0, 4), np.float32)


def face(size, x, y, degrees=0.0):
    """A face of the template's form whose center is at (x, y)."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((TEMPLATE - TEMPLATE.mean(axis=0)) @ turn.T * size / 72 + (x, y)).astype(np.float32)


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


def test_boxes_by_hand_need_not_be_drawn_as_detectors_draw_them():
    points = face(40, 100, 100)
    x, y, w, h = face_boxes(points)[0]
    head = (x - 0.25 * w, y - 0.5 * h, 1.5 * w, 1.5 * h)
    result = match_boxes(points[None], np.ones(1), np.array([head]), NO_BOX)
    assert result.truth.tolist() == [0]
    assert result.sizes.tolist() == pytest.approx([1.5 * w])
    assert np.isnan(result.errors).all()
    assert landmark_error(recall_at([result], 0.1)) is None, "the points are not known"


def test_points_of_boxed_faces_are_compared_where_they_are_known():
    found = np.stack([face(40, 100, 100), face(40, 200, 100)])
    truth = found + np.float32(1)
    truth[1] = np.nan
    result = match_boxes(found, np.array([0.9, 0.8]), face_boxes(found), NO_BOX, truth)
    eyes = np.linalg.norm(found[0, 0] - found[0, 1])
    np.testing.assert_allclose(result.errors, [100 * np.sqrt(2) / eyes, np.nan], rtol=1e-4)


def test_finds_in_ignored_regions_count_neither_way():
    found = np.stack([face(40, 100, 100), face(40, 200, 100), face(40, 300, 100)])
    boxes = face_boxes(found)
    region = np.array([(150, 50, 100, 100)])
    result = match_boxes(found, np.array([0.7, 0.9, 0.8]), boxes[:1], region)
    np.testing.assert_allclose(result.scores, [0.8, 0.7])
    assert result.truth.tolist() == [-1, 0]
    again = match_boxes(found, np.ones(3), boxes[:2], region)
    assert sorted(again.truth.tolist()) == [-1, 0, 1], "a face that is boxed counts inside of a region too"
    assert match_boxes(found, np.ones(3), NO_BOX, NO_BOX).truth.tolist() == [-1, -1, -1]
    assert match_boxes(NOTHING, np.ones(0), boxes, region).sizes.shape == (3,)

"""Which finds of a labeler are faces, beside boxes that people drew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from slimcam.deploy.vision.align import TEMPLATE, face_boxes
from slimcam.training.data.detection.finds import VIEWS
from slimcam.training.data.detection.labels import (
    Answers,
    answers,
    assigned,
    drawing_habit,
    face_labels,
    points_in,
)
from slimcam.training.data.detection.photographs import Photograph

HEIGHT, WIDTH = 480, 640
SAME = np.array([0, 0, 1, 1], np.float32)


def face(width, x, y):
    """A face of that width whose template's middle lies at x, y."""
    return ((TEMPLATE - TEMPLATE.mean(axis=0)) * width / 72 + (x, y)).astype(np.float32)


def finds(*faces):
    """Rows of view, score and points."""
    rows = [np.concatenate([[view, score], points.ravel()]) for view, score, points in faces]
    return np.array(rows, dtype=np.float32).reshape(-1, 12)


def photograph(boxes, ignored=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    ignored = np.zeros(len(boxes), bool) if ignored is None else np.array(ignored)
    return Photograph(Path("a.png"), "a.png", boxes, ("",) * len(boxes), ignored)


def test_views_of_one_face_are_averaged_and_the_best_of_each_view_counts():
    near = [(view, 0.9 - 0.1 * view, face(40, 100 + view, 100)) for view in range(3)]
    found = answers(finds(*near, (0, 0.3, face(40, 108, 100)), (1, 0.8, face(40, 300, 100))), HEIGHT, WIDTH)
    np.testing.assert_allclose(found.points[0], face(40, 101, 100), atol=1e-4)
    assert found.views.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("views", "score", "width", "sure"),
    [
        (range(VIEWS), 0.7, 40, True),
        (range(VIEWS), 0.5, 40, False),  # no view is sure
        ((0,), 0.9, 40, False),  # one view of four
        ((0, 1), 0.9, 12, True),  # too small for the others
        ((2, 3), 0.9, 12, False),  # found where it is too small to be seen alone
    ],
)
def test_a_find_is_sure_where_most_views_that_can_see_it_do(views, score, width, sure):
    found = answers(finds(*((view, score, face(width, 100, 100)) for view in views)), HEIGHT, WIDTH)
    assert found.sure.tolist() == [sure]


def test_nothing_found_gives_no_answers():
    found = answers(finds(), HEIGHT, WIDTH)
    assert found.points.shape == (0, 5, 2)
    assert face_labels(photograph([]), found, SAME).points.shape == (0, 5, 2)


def test_each_box_has_the_face_that_it_overlaps_most():
    points = np.stack([face(40, 100, 100), face(40, 110, 100)])
    boxes = np.concatenate([face_boxes(points[1]), face_boxes(points[1] + (8, 0)), [(300, 300, 40, 50)]])
    assert assigned(boxes, points).tolist() == [1, 0, -1]
    assert assigned(boxes, points[:0]).tolist() == [-1, -1, -1]


def test_a_box_about_a_head_has_the_face_in_it_and_what_else_is_in_it_is_no_second_face():
    profile, ear = face(40, 90, 100), face(20, 160, 100)
    head = (60, 40, 130, 130)
    assert assigned(np.array([head], np.float32), np.stack([ear, profile])).tolist() == [1]
    found = Answers(np.stack([ear, profile]), views=np.array([4, 4]), sure=np.array([True, True]))
    labels = face_labels(photograph([head]), found, SAME)
    np.testing.assert_allclose(labels.points, profile[None])
    np.testing.assert_allclose(labels.ignored, face_boxes(ear))


def test_boxes_get_points_sure_finds_are_added_and_the_rest_is_ignored():
    found = Answers(
        np.stack([face(40, 100, 100), face(40, 200, 100), face(40, 300, 100), face(40, 400, 100)]),
        views=np.array([4, 1, 4, 2]),
        sure=np.array([True, False, True, False]),
    )
    boxes = [*face_boxes(found.points[:2]), (500, 300, 36, 46), (10, 400, 20, 20)]
    labels = face_labels(photograph(boxes, [False, False, False, True]), found, SAME)
    np.testing.assert_allclose(labels.points[[0, 3]], found.points[[0, 2]])
    assert labels.boxed.tolist() == [False, True, True, False]
    np.testing.assert_allclose(labels.ignored, [(10, 400, 20, 20), face_boxes(found.points[3])[0]], rtol=1e-5)
    np.testing.assert_allclose(face_boxes(labels.points[1:3]), boxes[1:3], rtol=0.03)


def test_how_a_set_draws_its_boxes_is_learned_from_faces_that_are_found():
    points = np.stack([face(40 + 4 * number, 100, 100) for number in range(20)])
    x, y, w, h = face_boxes(points).T
    # About the whole head: half as wide again on each side, and higher.
    heads = np.stack([x - 0.25 * w, y - 0.5 * h, 1.5 * w, 1.5 * h], axis=1)
    sets = [photograph(head[None]) for head in heads]
    found = [Answers(each[None], np.array([4]), np.array([True])) for each in points]
    habit = drawing_habit(sets, found)
    np.testing.assert_allclose(face_boxes(points_in(heads, habit)), face_boxes(points), rtol=1e-3, atol=0.1)
    np.testing.assert_array_equal(drawing_habit(sets[:3], found[:3]), SAME)

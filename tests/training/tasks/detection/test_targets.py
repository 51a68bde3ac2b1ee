"""What a detector learns of a picture, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.vision.align import TEMPLATE
from slimcam.training.tasks.detection.targets import cells, encode

HEIGHT, WIDTH = 240, 320
NOTHING = np.zeros((0, 5, 2), np.float32)


def face(size, x, y, degrees=0.0):
    """A face of the template's form whose center is at (x, y)."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((TEMPLATE - TEMPLATE.mean(axis=0)) @ turn.T * size / 72 + (x, y)).astype(np.float32)


def row_of(stride, i, j):
    """The row of a cell of a map."""
    before = {8: 0, 16: 30 * 40, 32: 30 * 40 + 15 * 20}[stride]
    return before + i * -(-WIDTH // stride) + j


def test_cells_come_map_by_map_and_row_by_row():
    centers, strides = cells(HEIGHT, WIDTH)
    assert len(centers) == 30 * 40 + 15 * 20 + 8 * 10
    np.testing.assert_array_equal(centers[row_of(8, 0, 1)], [11.5, 3.5])
    np.testing.assert_array_equal(centers[row_of(16, 1, 0)], [7.5, 23.5])
    np.testing.assert_array_equal(centers[row_of(32, 7, 9)], [303.5, 239.5])
    assert np.bincount(strides)[[8, 16, 32]].tolist() == [1200, 300, 80]


def test_a_picture_without_a_face_is_all_negative():
    targets = encode(NOTHING, HEIGHT, WIDTH)
    assert targets.shape == (1580, 13)
    assert set(targets[:, 0]) == {-8}
    assert not targets[:, 1:].any()


def test_what_is_encoded_gives_the_points_back():
    points = np.stack([face(20, 60, 60, 15), face(60, 200, 90, -30), face(180, 160, 130, 5)])
    targets = encode(points, HEIGHT, WIDTH)
    centers, _ = cells(HEIGHT, WIDTH)
    positive = targets[:, 12] == 1
    assert set(targets[positive, 0]) == {8}
    assert set(targets[~positive, 0]) == {-8}
    assert not targets[~positive, 1:12].any()
    sizes = 64 * 2 ** (targets[positive, 1] / 2)
    decoded = centers[positive, None] + targets[positive, 2:12].reshape(-1, 5, 2) * sizes[:, None, None] / 8
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


def test_cells_about_the_center_are_positive_those_around_are_ignored():
    # 63.5, 63.5 is where four cells of the map of stride 16 meet, and the size belongs to that map alone.
    targets = encode(face(64, 63.5, 63.5), HEIGHT, WIDTH)
    centers, strides = cells(HEIGHT, WIDTH)
    away = np.hypot(*(centers - 63.5).T) / 64
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
    # As far from the centers of cells as can be: 5.66 pixels.
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


def test_cells_about_a_face_centered_outside_are_ignored():
    targets = encode(face(60, -3, 100), HEIGHT, WIDTH)
    assert not np.any(targets[:, 12] == 1)
    assert np.any(targets[:, 12] == -1)


@pytest.mark.parametrize(("points", "said"), [(np.full((5, 2), np.nan), "not finite"), (np.ones((5, 2)), "coincide")])
def test_points_that_are_no_face_are_refused(points, said):
    with pytest.raises(ValueError, match=said):
        encode(points, HEIGHT, WIDTH)


def test_cells_in_an_ignored_box_are_ignored_but_where_there_is_a_face():
    points = np.stack([face(30, 100, 100), face(30, 250, 100)])
    plain = encode(points, HEIGHT, WIDTH)
    targets = encode(points, HEIGHT, WIDTH, np.array([False, True]), np.array([(60, 60, 80, 80)], np.float32))
    assert set(targets[targets[:, 12] > 0, 12]) == {1, 2}
    np.testing.assert_array_equal(targets[:, 12] > 0, plain[:, 12] > 0)
    np.testing.assert_array_equal(targets[:, :12], plain[:, :12])
    x, y = cells(HEIGHT, WIDTH)[0].T
    inside = (np.abs(x - 100) < 40) & (np.abs(y - 100) < 40)
    assert not (targets[inside, 12] == 0).any()
    far = (np.abs(x - 100) > 45) | (np.abs(y - 100) > 45)
    np.testing.assert_array_equal((targets[far, 12] == 0), (plain[far, 12] == 0))


def test_a_small_ignored_box_covers_a_cell_wherever_it_lies():
    for x in range(40, 48):
        targets = encode(NOTHING, HEIGHT, WIDTH, ignored=np.array([(x, 40, 3, 3)], np.float32))
        assert (targets[:1200, 12] == -1).any()

"""Five points: size, box and the mirror image of a face."""

from __future__ import annotations

import numpy as np

from slimcam.deploy.vision.align import TEMPLATE, face_boxes, face_sizes, similarity
from slimcam.training.data.detection.points import mirrored

HEIGHT, WIDTH = 240, 320
NOTHING = np.zeros((0, 5, 2), np.float32)


def face(size, x, y, degrees=0.0):
    """A face of the template's form whose center is at (x, y)."""
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return ((TEMPLATE - TEMPLATE.mean(axis=0)) @ turn.T * size / 72 + (x, y)).astype(np.float32)


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

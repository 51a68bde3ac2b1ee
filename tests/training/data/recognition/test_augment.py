"""Augmentation."""

from __future__ import annotations

import numpy as np

from slimcam.training.data.recognition.augment import AugmentConfig, augment, deform, mixup
from slimcam.training.data.recognition.faces import FaceSet


def faces(count=20):
    images = np.random.default_rng(0).integers(0, 255, size=(count, 112, 112, 3), dtype=np.uint8)
    return FaceSet(images, np.arange(count, dtype=np.int32) % 4, tuple("abcd"))


def test_augmentation_follows_its_seed_and_keeps_the_shape():
    image = faces().images[0]
    one, again, other = (augment(image, AugmentConfig(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    assert np.any(one != other)


def test_augmentation_of_nothing_changes_nothing():
    still = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)
    image = faces().images[0]
    np.testing.assert_allclose(augment(image, still, np.random.default_rng(0)), image, atol=1)


def test_a_certain_flip_mirrors_the_face():
    mirrored = AugmentConfig(1.0, 0, 0, 0, 0, 0, 0, 0, 0)
    image = faces().images[0]
    np.testing.assert_allclose(augment(image, mirrored, np.random.default_rng(0)), image[:, ::-1], atol=1)


def test_mixup_shows_both_faces():
    black, white = np.zeros((112, 112, 3), np.uint8), np.full((112, 112, 3), 200, np.uint8)
    shares = [mixup(black, white, np.random.default_rng(seed)).mean() / 200 for seed in range(50)]
    assert min(shares) >= 0.1
    assert max(shares) <= 0.9
    assert max(shares) - min(shares) > 0.3


def test_elastic_deformation_moves_pixels_by_a_few_at_most():
    ramp = np.broadcast_to(np.arange(112, dtype=np.uint8)[None, :, None], (112, 112, 3)).copy()
    moves = np.stack([deform(ramp, np.random.default_rng(seed)) for seed in range(20)]).astype(int) - ramp
    assert 1 < np.abs(moves).max() < 20
    assert np.abs(np.diff(moves[:, :, 20:90, 0], axis=2)).max() <= 3

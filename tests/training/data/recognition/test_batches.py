"""Batches of faces: a function of seed and step alone."""

from __future__ import annotations

import numpy as np
import pytest

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import normalized
from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import UNLABELED, FaceSet
from slimcam.training.data.recognition.teacher_targets import TeacherTargets


def faces(count=20):
    images = np.random.default_rng(0).integers(0, 255, size=(count, 112, 112, 3), dtype=np.uint8)
    return FaceSet(images, np.arange(count, dtype=np.int32) % 4, tuple("abcd"))


def test_batches_are_the_same_for_any_number_of_workers_and_from_any_start():
    def first(workers, start, count):
        batches = Batches(faces(), 6, AugmentConfig(mixup=0.3), seed=3, workers=workers)
        stream = batches.stream([112] * 10, start)
        found = [next(stream) for _ in range(count)]
        stream.close()
        return found

    one, many, later = first(1, 0, 6), first(4, 0, 6), first(3, 2, 4)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a.images, b.images)
    for a, b in zip(one[2:], later, strict=True):
        np.testing.assert_array_equal(a.images, b.images)


@pytest.mark.parametrize("augment", [AugmentConfig(mixup=0.5), AugmentConfig(elastic=0.5)])
def test_mixup_and_elastic_deformation_make_a_view_unlabeled(augment):
    changed, plain = (Batches(faces(), 40, config, seed=0).batch(0, 112) for config in (augment, AugmentConfig()))
    own = (changed.images == plain.images).all(axis=(1, 2, 3))
    assert 5 < own.sum() < 35
    np.testing.assert_array_equal(changed.labels, np.where(own, plain.labels, UNLABELED))


def test_an_epoch_shows_every_image_once_even_across_a_batch_border():
    batches = Batches(faces(20), 6, None, seed=0)
    seen = np.concatenate([batches.batch(step, 56).indices for step in range(10)])
    for epoch in range(3):
        assert sorted(seen[20 * epoch : 20 * (epoch + 1)]) == list(range(20))
    assert batches.batch(0, 56).images.shape == (6, 56, 56, 3)


def test_a_stream_ends_after_its_last_step_and_gives_each_step_its_size():
    sizes = [batch.images.shape[1] for batch in Batches(faces(), 6, None, seed=0).stream([32, 32, 48, 112])]
    assert sizes == [32, 32, 48, 112]


def test_views_of_a_face_come_again_after_their_number_and_not_before():
    class Counted:
        views = 2
        channels = 0

        def __call__(self, indices, variants, images):
            seen.extend(zip(indices.tolist(), variants.tolist(), [image.tobytes() for image in images], strict=True))
            return TeacherTargets(np.zeros((len(indices), 4), np.float32))

    seen = []
    batches = Batches(faces(20), 5, AugmentConfig(mixup=0.5, elastic=0.5), seed=0, targets=Counted())
    for step in range(16):
        batches.batch(step, 112)
    views = {}
    for index, variant, image in seen:
        views.setdefault((index, variant), set()).add(image)
    assert len(views) == 40
    assert all(len(images) == 1 for images in views.values())
    assert len({image for images in views.values() for image in images}) == 40


def test_balance_draws_people_with_few_images_as_often():
    few, many = 10, 190
    labels = np.repeat(np.arange(11, dtype=np.int32), [1] * few + [many])
    unbalanced, balanced = FaceSet(np.zeros((len(labels), 112, 112, 3), np.uint8), labels, tuple("abcdefghijk")), []
    batches = Batches(unbalanced, 50, None, seed=0, balance=1.0)
    for step in range(40):
        balanced.extend(labels[batches.batch(step, 16).indices])
    share = np.mean(np.array(balanced) == 10)
    assert share == pytest.approx(1 / 11, abs=0.02)
    repeated = Batches(unbalanced, 50, None, seed=0, balance=1.0).batch(7, 16)
    np.testing.assert_array_equal(repeated.indices, batches.batch(7, 16).indices)


def test_pixels_are_normalized_so_that_int8_is_exact():
    pixels = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(normalized(pixels, InputSpec()) * 128, pixels.astype(np.float32) - 128)


def test_an_unlabeled_face_is_sampled_as_often_as_one_whose_person_has_no_other():
    labels = np.array([0] * 9 + [UNLABELED] * 3, np.int32)
    batches = Batches(FaceSet(np.zeros((12, 112, 112, 3), np.uint8), labels, ("a",)), 12, None, 0, balance=1.0)
    drawn = np.concatenate([batches._sampled(step)[0] for step in range(200)])
    assert np.mean(drawn >= 9) == pytest.approx(3 / 4, abs=0.02)

"""Rendered digits: the same for the same seed, and legible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slimcam.training.data.classification.digits import CLASSES, DigitsConfig, draw, fingerprint, load

SMALL = DigitsConfig(images_per_class=30, held_out_per_class=0, test_images_per_class=10)


def test_a_digit_is_a_function_of_its_seeds() -> None:
    assert tuple("0123456789") == CLASSES
    first = draw("7", 0, 0, 1)
    assert (first.shape, first.dtype) == ((28, 28, 3), np.uint8)
    np.testing.assert_array_equal(first, draw("7", 0, 0, 1))
    others = [draw("7", 1, 0, 1), draw("7", 0, 2, 1), draw("7", 0, 0, 2), draw("1", 0, 0, 1)]
    assert all(not np.array_equal(first, other) for other in others)


def test_digits_are_told_apart_by_their_mean_image(tmp_path: Path) -> None:
    data = load(SMALL, tmp_path)
    assert (len(data.train), len(data.test), data.held_out) == (300, 100, None)
    train, test = (np.asarray(part.images, np.float64).reshape(len(part), -1) for part in (data.train, data.test))
    train, test = (values - values.mean(axis=1, keepdims=True) for values in (train, test))
    means = np.stack([train[data.train.labels == label].mean(axis=0) for label in range(10)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    assert ((test @ means.T).argmax(axis=1) == data.test.labels).mean() > 0.5


def test_the_fingerprint_is_that_of_the_options_that_change_pixels() -> None:
    assert fingerprint(SMALL) == fingerprint(replace(SMALL, workers=3))
    assert fingerprint(SMALL) != fingerprint(replace(SMALL, seed=1))


def test_counts_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="digits: images_per_class and test_images_per_class are 1 or more"):
        DigitsConfig(images_per_class=0)

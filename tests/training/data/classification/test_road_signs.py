"""Rendered road signs: the same for the same seed, and none of one stream in another."""

from __future__ import annotations

import numpy as np

from slimcam.training.data.classification.road_signs import CLASSES, RoadSignsConfig, draw, fingerprint, load

SMALL = RoadSignsConfig(images_per_class=3, held_out_per_class=1, test_images_per_class=2)


def test_a_sign_is_a_function_of_its_seeds():
    assert len(CLASSES) == 13
    first = draw("stop", 0, 0, 1)
    assert first.shape == (64, 64, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, draw("stop", 0, 0, 1))
    others = [draw("stop", 1, 0, 1), draw("stop", 0, 1, 1), draw("stop", 0, 0, 2), draw("yield", 0, 0, 1)]
    assert all(not np.array_equal(first, other) for other in others)


def test_the_source_gives_all_classes_alike_and_keeps_what_it_drew(tmp_path):
    data = load(SMALL, tmp_path)
    assert data.classes == CLASSES
    assert [len(images) for images in (data.train, data.held_out, data.test)] == [39, 13, 26]
    assert np.bincount(data.train.labels).tolist() == [3] * 13
    np.testing.assert_array_equal(data.train.images[3], draw(CLASSES[1], 0, 0, 0))
    kept = sorted(tmp_path.iterdir())
    assert len(kept) == 3
    times = [path.stat().st_mtime_ns for path in kept]
    load(SMALL, tmp_path)
    assert [path.stat().st_mtime_ns for path in kept] == times


def test_other_images_have_another_fingerprint():
    assert fingerprint(SMALL) == fingerprint(
        RoadSignsConfig(images_per_class=3, held_out_per_class=1, test_images_per_class=2, workers=3)
    )
    assert fingerprint(SMALL) != fingerprint(
        RoadSignsConfig(images_per_class=4, held_out_per_class=1, test_images_per_class=2)
    )

"""Which photographs are copies of each other."""

from __future__ import annotations

import cv2
import numpy as np

from slimcam.training.data.detection.copies import copy_groups, thumbnail


def picture(seed):
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    return cv2.resize(coarse, (120, 90), interpolation=cv2.INTER_CUBIC)


def test_resized_darkened_mirrored_and_turned_copies_are_in_one_group():
    first, second = picture(1), picture(2)
    copies = [
        cv2.resize(first, (50, 60)),
        first // 3,
        np.ascontiguousarray(first[:, ::-1]),
        np.ascontiguousarray(np.rot90(first)),
        np.ascontiguousarray(first[::-1, ::-1]),
    ]
    groups = copy_groups([thumbnail(image) for image in (first, second, *copies, picture(3))])
    assert groups.tolist() == [0, 1, 0, 0, 0, 0, 0, 7]


def test_plain_images_are_copies_of_none_and_nothing_has_no_groups():
    plain = np.full((20, 20, 3), 9, np.uint8)
    assert copy_groups([thumbnail(plain), thumbnail(plain)]).tolist() == [0, 1]
    assert copy_groups([]).tolist() == []

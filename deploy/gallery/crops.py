"""Aligned faces as files: what a gallery keeps, where its owner chose so, to make templates again for another model."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.gallery.people import Template
from slimcam.deploy.vision.align import CROP_SIZE
from slimcam.deploy.vision.image_files import decode_picture


def encode_crop(crop: NDArray[np.uint8]) -> bytes:
    """A crop `(112, 112, 3)` uint8 RGB as PNG, which loses nothing."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))[1])


def decode_crops(templates: Sequence[Template]) -> NDArray[np.uint8]:
    """The crops of the templates that have one, `(N, 112, 112, 3)` uint8 RGB.

    Raises:
        ValueError: one is no picture of this size.
    """
    shape = (CROP_SIZE, CROP_SIZE, 3)
    crops = [decode_picture(one.crop, f"the crop of {one.source}") for one in templates if one.crop is not None]
    for crop in crops:
        if crop.shape != shape:
            raise ValueError(f"a crop must be an aligned face of {CROP_SIZE}x{CROP_SIZE}; got {crop.shape}")
    return np.stack(crops) if crops else np.empty((0, *shape), np.uint8)

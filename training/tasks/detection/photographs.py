"""Detectors judged by photographs in which people boxed the faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.detector_output import Faces
from slimcam.training.data.detection.labels import JudgedPhotograph
from slimcam.training.data.images import Image, decode, read_bytes
from slimcam.training.tasks.detection.metrics import Match, Recall, match_boxes

SMALLEST = 8.0
"""Width in the detector's input, pixels, below which faces count neither way."""


def read_image(photograph: JudgedPhotograph) -> Image:
    """`(h, w, 3)` uint8 RGB.

    Raises:
        ValueError: the file cannot be read as a picture.
    """
    image = decode(read_bytes(photograph.path))
    if image is None:
        raise ValueError(f"{photograph.path}: cannot be read as a picture")
    return image


def match_photograph(found: Faces, photograph: JudgedPhotograph, image: Image, height: int, width: int) -> Match:
    """What a detector finds in a photograph against the boxes, with sizes in pixels of an input of `height` x `width`.

    All boxes count as faces that are as wide as `SMALLEST` there; smaller ones are ignored.
    """
    scale = min(height / image.shape[0], width / image.shape[1])
    large = counting(photograph, image, height, width)
    ignored = np.concatenate([photograph.ignored, photograph.boxes[~large]])
    boxes, points = photograph.boxes[large] * scale, photograph.points[large] * scale
    return match_boxes(found.points * scale, found.scores, boxes, ignored * scale, points)


def counting(photograph: JudgedPhotograph, image: Image, height: int, width: int) -> NDArray[np.bool_]:
    """Which boxes count as faces, `(N,)`: those at least `SMALLEST` wide in an input of `height` x `width`."""
    return _large(photograph, min(height / image.shape[0], width / image.shape[1]))


def judged_labels(photographs: Sequence[JudgedPhotograph], scales: Sequence[float]) -> NDArray[np.str_]:
    """The label of each face that counts, `(T,)`, in the order of `metrics.Recall`.

    Args:
        scales: Pixels of the detector's input that one of each photograph becomes.
    """
    labels = [
        label
        for photograph, scale in zip(photographs, scales, strict=True)
        for label, large in zip(photograph.labels, _large(photograph, scale), strict=True)
        if large
    ]
    return np.array(labels, dtype=np.str_)


def recall_by_label(recall: Recall, labels: NDArray[np.str_]) -> Mapping[str, float]:
    """The share of the faces of each label that is found; nothing where all have the same."""
    names = sorted(set(labels.tolist()))
    return {name: float(recall.found[labels == name].mean()) for name in names} if len(names) > 1 else {}


def _large(photograph: JudgedPhotograph, scale: float) -> NDArray[np.bool_]:
    return np.asarray(photograph.boxes[:, 2] * scale >= SMALLEST)

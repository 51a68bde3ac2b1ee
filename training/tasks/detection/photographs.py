"""Detectors evaluated by photographs in which people boxed the faces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.detector_output import Faces
from slimcam.training.data.detection.labels import EvaluationPhotograph
from slimcam.training.data.images import Image
from slimcam.training.tasks.detection.metrics import Match, Recall, match_boxes

SMALLEST = 8.0
"""Width in the detector's input, pixels, below which faces count neither way."""


def match_photograph(found: Faces, photograph: EvaluationPhotograph, image: Image, height: int, width: int) -> Match:
    """What a detector finds in a photograph against the boxes, with sizes in pixels of an input of `height` x `width`.

    All boxes count as faces that are as wide as `SMALLEST` there; smaller ones are ignored.
    """
    scale = fitted_scale(image, height, width)
    large = counting(photograph, scale)
    ignored = np.concatenate([photograph.ignored, photograph.boxes[~large]])
    boxes, points = photograph.boxes[large] * scale, photograph.points[large] * scale
    return match_boxes(found.points * scale, found.scores, boxes, ignored * scale, points)


def fitted_scale(image: Image, height: int, width: int) -> float:
    """How many pixels of an input of `height` x `width` one of an image becomes."""
    rows, columns = image.shape[:2]
    return min(height / int(rows), width / int(columns))


def counting(photograph: EvaluationPhotograph, scale: float) -> NDArray[np.bool_]:
    """Which boxes count as faces, `(N,)`: those at least `SMALLEST` wide in the input.

    Args:
        scale: Pixels of the detector's input that one of the photograph becomes.
    """
    return np.asarray(photograph.boxes[:, 2] * scale >= SMALLEST)


def evaluated_labels(photographs: Sequence[EvaluationPhotograph], scales: Sequence[float]) -> NDArray[np.str_]:
    """The label of each face that counts, `(T,)`, in the order of `metrics.Recall`.

    Args:
        scales: Pixels of the detector's input that one of each photograph becomes.
    """
    labels = [
        label
        for photograph, scale in zip(photographs, scales, strict=True)
        for label, large in zip(photograph.labels, counting(photograph, scale), strict=True)
        if large
    ]
    return np.array(labels, dtype=np.str_)


def recall_by_label(recall: Recall, labels: NDArray[np.str_]) -> Mapping[str, float]:
    """The share of the faces of each label that is found; nothing where all have the same."""
    names = sorted(set(labels.tolist()))
    return {name: float(recall.found[labels == name].mean()) for name in names} if len(names) > 1 else {}

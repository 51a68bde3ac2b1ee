"""Photographs with what a detector finds and misses, drawn side by side to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.deploy.vision.detector_output import Faces
from slimcam.deploy.vision.letterbox import letterbox
from slimcam.training.data.detection.labels import EvaluationPhotograph
from slimcam.training.data.images import Image, read_picture
from slimcam.training.tasks.detection.evaluation import FPPI
from slimcam.training.tasks.detection.metrics import Match, recall_at
from slimcam.training.tasks.detection.photographs import counting, fitted_scale

_ROWS, _COLUMNS = 5, 4
_HEIGHT, _WIDTH = 360, 480
_HIT, _MISSED, _FIND, _IGNORED = (0, 200, 0), (255, 0, 0), (255, 220, 0), (150, 150, 150)


def check_sheet(file: Path) -> None:
    """Raises a ValueError if images cannot be written in the file's format."""
    if not cv2.haveImageWriter(str(file)):
        raise ValueError(f"{file}: images are written as .jpg or .png")


def draw_sheet(
    photographs: Sequence[EvaluationPhotograph],
    found: Sequence[Faces],
    matches: Sequence[Match],
    size: tuple[int, int],
    file: Path,
) -> None:
    """Writes an image of twenty photographs of a set, evenly spread, with finds at 0.1 false faces an image.

    Boxes by hand are green where their face is found and red where it is missed, finds with their points yellow; what
    counts neither way is gray.

    Args:
        found: Nearly all that a detector finds in each photograph, whatever the score.
        matches: Of these, see `photographs.match_photograph`.
        size: Height and width that the detector looks at.
        file: A .jpg or .png file.

    Raises:
        ValueError: a photograph cannot be read.
    """
    threshold = recall_at(matches, FPPI).threshold
    shown = np.linspace(0, len(photographs) - 1, min(_ROWS * _COLUMNS, len(photographs))).round().astype(int)
    sheet = np.full((_ROWS * _HEIGHT, _COLUMNS * _WIDTH, 3), 255, np.uint8)
    for place, number in enumerate(shown.tolist()):
        hits = matches[number].truth[(matches[number].scores >= threshold) & (matches[number].truth >= 0)]
        top, left = place // _COLUMNS * _HEIGHT, place % _COLUMNS * _WIDTH
        picture = _marked(photographs[number], found[number], threshold, hits, size)
        sheet[top : top + _HEIGHT, left : left + _WIDTH] = picture
    _, content = cv2.imencode(file.suffix, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    with atomic(file) as partial:
        partial.write_bytes(content.tobytes())


def _marked(
    photograph: EvaluationPhotograph, found: Faces, threshold: float, hits: NDArray[np.int64], size: tuple[int, int]
) -> Image:
    """`(360, 480, 3)`; `hits` are the found ones of the faces that count."""
    image = read_picture(photograph.path)
    counts = np.flatnonzero(counting(photograph, fitted_scale(image, *size)))
    drawn, scale = letterbox(image, _HEIGHT, _WIDTH)
    boxes = np.concatenate([photograph.ignored, photograph.boxes])
    colors = np.tile(_IGNORED, (len(boxes), 1))
    of_faces = colors[len(photograph.ignored) :]
    of_faces[counts], of_faces[counts[hits]] = _MISSED, _HIT
    for box, color in zip(boxes, colors.tolist(), strict=True):
        _rectangle(drawn, box, scale, color, 2)
    sure = found.scores >= threshold
    for box, points in zip(found.boxes[sure], found.points[sure], strict=True):
        _rectangle(drawn, box, scale, _FIND, 1)
        for point in points * scale:
            cv2.circle(drawn, (round(float(point[0])), round(float(point[1]))), 1, _FIND, -1)
    return drawn


def _rectangle(
    image: Image, box: NDArray[np.float32], scale: NDArray[np.float64], color: Sequence[int], thickness: int
) -> None:
    corners = np.concatenate([box[:2] * scale, (box[:2] + box[2:]) * scale])
    left, top, right, bottom = corners.round().astype(int).tolist()
    cv2.rectangle(image, (left, top), (right, bottom), tuple(color), thickness)

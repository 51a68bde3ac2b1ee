"""The faces of photographs: boxes drawn by people, completed with and given points by what a labeler finds.

People leave faces out, small ones in the background first; a labeler sees things that are no faces. What the labeler is
sure of is a face. What it is not sure of, and nobody boxed, is ignored: neither a face nor anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import FACE_WIDTH, TEMPLATE, face_boxes, face_sizes
from slimcam.deploy.vision.detector_output import OVERLAP, box_overlaps
from slimcam.deploy.vision.image_files import picture_size
from slimcam.training.data.detection.finds import VIEWS, finds_in, view_scale
from slimcam.training.data.detection.photographs import Photograph, read_photographs
from slimcam.training.data.images import read_bytes

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

FACE_LABELS_VERSION = 1
"""Raise it with every change that changes what a face is, or its points."""

BOX_OVERLAP = 0.3
"""Intersection over union from which on a box by hand and a find are of one face: people draw boxes in their own ways,
about heads or from brow to chin."""

SURE = 0.6
"""Least score, of the best view, of a find that is a face without anybody having boxed it."""

_SMALL = 12.0
"""Width in a view, pixels, from which on a face has to be found there."""

_INSIDE = 2 / 3
"""Share of a find's box in a box by hand from which on it lies in it."""

_LEAST_FILLED = 0.1

_LEAST_VIEWS = 2
_MATCHES = 20
"""Boxes by hand whose faces the labeler finds, that are needed to learn how the boxes of a set are drawn."""

_FACE_HEIGHT, _FACE_MIDDLE = 92.0, np.array([56.0, 64.0], np.float32)
"""Of `align.face_boxes`, in an aligned crop."""


@dataclass(frozen=True)
class Answers:
    """What the views of a photograph agree on.

    Attributes:
        points: `(M, 5, 2)`, means over the views, pixels of the photograph.
        views: `(M,)`, number of views that see the face.
        sure: `(M,)`, whether it is a face.
    """

    points: Float
    views: NDArray[np.int64]
    sure: Bool


@dataclass(frozen=True)
class FaceLabels:
    """The faces of a photograph, and where it is not known whether there is one.

    Attributes:
        points: `(N, 5, 2)`, pixels of the photograph.
        boxed: `(N,)`, faces known by their box alone: their points are those of the template in the box.
        ignored: `(K, 4)` boxes x, y, width, height.
    """

    points: Float
    boxed: Bool
    ignored: Float


NO_FACES = FaceLabels(np.zeros((0, 5, 2), np.float32), np.zeros(0, bool), np.zeros((0, 4), np.float32))
"""Of a photograph that shows none."""


def answers(finds: Float, height: int, width: int) -> Answers:
    """Puts the finds of all views of a photograph together.

    Args:
        finds: `(K, 12)`, see `slimcam.training.data.detection.finds.finds_in`.
        height, width: of the photograph, pixels.
    """
    finds = finds[np.argsort(-finds[:, 1], kind="stable")]
    points = finds[:, 2:].reshape(-1, 5, 2)
    overlaps = box_overlaps(face_boxes(points), face_boxes(points))
    scales = np.array([view_scale(height, width, view) for view in range(VIEWS)])
    left = np.ones(len(finds), dtype=bool)
    means, views, sure = [], [], []
    for best in range(len(finds)):
        if not left[best]:
            continue
        group = np.flatnonzero(left & (overlaps[best] >= OVERLAP) | (np.arange(len(finds)) == best))
        left[group] = False
        # The best of each view: finds are sorted.
        seen, first = np.unique(finds[group, 0].astype(int), return_index=True)
        means.append(points[group[first]].mean(axis=0))
        views.append(len(seen))
        expected = np.flatnonzero(scales * float(face_sizes(points[best])[0]) >= _SMALL)
        agreed = len(seen) >= _LEAST_VIEWS and 2 * np.isin(expected, seen).sum() >= len(expected)
        sure.append(agreed and finds[best, 1] >= SURE)
    return Answers(
        np.array(means, np.float32).reshape(-1, 5, 2), np.array(views, dtype=np.int64), np.array(sure, dtype=bool)
    )


def assigned(boxes: Float, points: Float) -> NDArray[np.int64]:
    """Which of some faces `(M, 5, 2)` each box `(N, 4)` is of, -1 for none: `(N,)`; best overlap first, each once."""
    overlaps = overlaps_by_hand(boxes, points)
    found = np.full(len(boxes), -1, dtype=np.int64)
    while overlaps.size and overlaps.max() >= BOX_OVERLAP:
        box, face = np.unravel_index(int(overlaps.argmax()), overlaps.shape)
        found[box] = face
        overlaps[box], overlaps[:, face] = 0, 0
    return found


def overlaps_by_hand(boxes: Float, points: Float) -> Float:
    """Intersection over union of boxes by hand `(N, 4)` and faces `(M, 5, 2)`: `(N, M)`.

    It is `BOX_OVERLAP` at the least where the face lies in the box and fills a tenth of it: of a profile people often
    box all of the head.
    """
    overlaps = box_overlaps(boxes, face_boxes(points))
    raised = _inside(boxes, points) & (overlaps >= _LEAST_FILLED) & (overlaps < BOX_OVERLAP)
    overlaps[raised] = BOX_OVERLAP
    return overlaps


def _inside(boxes: Float, points: Float) -> Bool:
    """Which faces `(M, 5, 2)` lie in which boxes `(N, 4)`, all but a third of them: `(N, M)`."""
    own = face_boxes(points)
    ends = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], own[:, :2] + own[:, 2:])
    shared = np.maximum(ends - np.maximum(boxes[:, None, :2], own[:, :2]), 0).prod(axis=2)
    return np.asarray(shared >= _INSIDE * np.maximum(own[:, 2] * own[:, 3], 1e-12))


def drawing_habit(photographs: Sequence[Photograph], answers: Sequence[Answers]) -> Float:
    """How the boxes of a set lie about the faces in them, `(4,)`: x, y, width, height of a face's box in units of them.

    The median over all boxes whose face the labeler is sure of (`align.face_boxes`); with fewer than 20 of them, the
    two are taken to be the same.
    """
    rows = []
    for photograph, found in zip(photographs, answers, strict=True):
        boxes, points = photograph.boxes[~photograph.ignored], found.points[found.sure]
        which = assigned(boxes, points)
        box, face = boxes[which >= 0], face_boxes(points)[which[which >= 0]]
        rows.append(np.concatenate([(face[:, :2] - box[:, :2]) / box[:, 2:], face[:, 2:] / box[:, 2:]], axis=1))
    found_in_all = np.concatenate(rows) if rows else np.zeros((0, 4))
    if len(found_in_all) < _MATCHES:
        return np.array([0, 0, 1, 1], dtype=np.float32)
    return np.asarray(np.median(found_in_all, axis=0), dtype=np.float32)


def points_in(boxes: Float, habit: Float) -> Float:
    """The template's points in boxes `(N, 4)`, `(N, 5, 2)`: about where the points of a face are that look ahead."""
    face = np.concatenate([boxes[:, :2] + habit[:2] * boxes[:, 2:], habit[2:] * boxes[:, 2:]], axis=1)
    scale = np.sqrt(face[:, 2] / FACE_WIDTH * face[:, 3] / _FACE_HEIGHT)
    middle = face[:, :2] + face[:, 2:] / 2
    points = (TEMPLATE - _FACE_MIDDLE) * scale[:, None, None] + middle[:, None]
    return np.asarray(points, dtype=np.float32)


def face_labels(photograph: Photograph, found: Answers, habit: Float) -> FaceLabels:
    """The faces of a photograph to learn from.

    A box by hand has the points of the find in it, if two views or more agree on them, else those of the template. Sure
    finds without a box are faces too. Boxes that are to be ignored, and finds that are not sure, are ignored. So is
    what is found in a box beside its own face: an ear, or a face behind it.
    """
    boxes = photograph.boxes[~photograph.ignored]
    which = assigned(boxes, found.points)
    known = (which >= 0) & (found.views[which] >= _LEAST_VIEWS) if len(found.points) else np.zeros(len(boxes), bool)
    free = ~np.isin(np.arange(len(found.points)), which)
    sure = free & found.sure & ~_inside(boxes, found.points).any(axis=0)
    points = [found.points[which[known]], points_in(boxes[~known], habit), found.points[sure]]
    counts = [len(part) for part in points]
    ignored = [photograph.boxes[photograph.ignored], face_boxes(found.points[free & ~sure])]
    return FaceLabels(
        np.concatenate(points), np.repeat([False, True, False], counts), np.concatenate(ignored).astype(np.float32)
    )


@dataclass(frozen=True)
class EvaluationPhotograph:
    """A photograph to evaluate detectors by, whose faces are boxed by people.

    Attributes:
        path: The image file.
        boxes: `(N, 4)` float32 x, y, width, height of the faces, pixels.
        labels: What each face is said to be, `N` names.
        ignored: `(K, 4)`, boxes that count neither way: marked so by people, or found by a labeler that is
            sure, where nobody drew a box.
        points: `(N, 5, 2)`, means over the views in which a labeler finds the face; NaN where fewer than two agree.
    """

    path: Path
    boxes: Float
    labels: tuple[str, ...]
    ignored: Float
    points: Float


def evaluation_photographs(folder: Path, labeler: Path | None, cache: Path) -> list[EvaluationPhotograph]:
    """The photographs of a set that people drew boxes in (see `photographs.read_photographs`).

    Args:
        labeler: YuNet's .onnx file, which finds the faces without a box; without, none are ignored for that.
        cache: Folder that its finds are kept in.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: nobody drew boxes in it, a list is none, or the file is no such detector.
        OSError: the cache cannot be written.
    """
    photographs = [photograph for photograph in read_photographs(folder) if photograph.boxed]
    if not photographs:
        raise ValueError(f"{folder}: no lists of boxes in it (Pascal VOC, YOLO or WIDER FACE); see docs/detector.md")
    finds = None if labeler is None else finds_in([each.path for each in photographs], labeler, cache)
    evaluated = []
    for number, photograph in enumerate(photographs):
        ignored, faces = photograph.boxes[photograph.ignored], ~photograph.ignored
        points = np.full((len(photograph.boxes), 5, 2), np.nan, np.float32)
        if finds is not None:
            found = answers(finds[number], *sides(photograph))
            sure = found.points[found.sure]
            free = ~np.isin(np.arange(len(sure)), assigned(photograph.boxes, sure))
            ignored = np.concatenate([ignored, face_boxes(sure[free])])
            agreed = found.points[found.views >= _LEAST_VIEWS]
            which = assigned(photograph.boxes, agreed)
            points[which >= 0] = agreed[which[which >= 0]]
        labels = tuple(label for label, face in zip(photograph.labels, faces, strict=True) if face)
        evaluated.append(EvaluationPhotograph(photograph.path, photograph.boxes[faces], labels, ignored, points[faces]))
    return evaluated


def sides(photograph: Photograph) -> tuple[int, int]:
    """Height and width of a photograph, pixels; 1 and 1 where the file is no picture."""
    width, height = picture_size(read_bytes(photograph.path).tobytes()) or (1, 1)
    return height, width

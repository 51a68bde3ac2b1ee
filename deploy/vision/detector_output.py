"""The output of a face detector network, and the faces in it.

A detector network takes an image `(1, H, W, 3)` and gives one output `(1, R, 12)`. Its rows are the cells of three maps
of strides 8, 16 and 32, one map after the other, each row by row. A cell says with a logit whether it sees a face, how
large the face is, and where its five points are:

    channel 0       logit of the score
    channel 1       2 * log2(size / 64)
    channels 2..11  8 * (point - center of the cell) / size, x and y of each point

so that all channels fill about -8..8 and share one int8 scale.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import face_boxes, face_sizes

Float = NDArray[np.float32]

STRIDES = (8, 16, 32)
CHANNELS = 12

OVERLAP = 0.45
"""Intersection over union from which on two detections are of one face, and vote on its points."""

OVER_SMALLER = 0.6
"""Intersection over the smaller area from which on two detections of similar size are of one face. The one with the
lower score has the wrong size and gets no vote."""

SIZE_RATIO = 4.0
"""Largest ratio of areas for that: a much smaller face inside of another may be one behind, or on a shirt."""

SCORE_EXPONENT = 8
"""Exponent of a score in its weight for box voting. The points of sure detections are the better ones: on photos of the
training set the error of the mean is 5.0 % of the distance of the eyes with the scores themselves, 4.4 % with this
exponent."""

_NO_AREA = np.float32(1e-12)
"""What areas are divided by at the least."""

CANDIDATES = 256
"""Largest number of cells that vote: a face takes about ten, and the time of voting grows with the square."""


@dataclass(frozen=True)
class Faces:
    """Faces of one frame, best first.

    Attributes:
        points: `(N, 5, 2)` float32, pixels of the frame, pixel centers at integers: left eye, right eye, nose, left and
            right mouth corner as seen in the picture. They may lie outside.
        scores: `(N,)` float32, 0..1.
    """

    points: Float
    scores: Float

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.points.shape != (count, 5, 2) or self.scores.shape != (count,):
            raise ValueError(
                f"faces need points (N, 5, 2) and scores (N,); got {self.points.shape}, {self.scores.shape}"
            )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def boxes(self) -> Float:
        """`(N, 4)` x, y, width, height; see `align.face_boxes`."""
        return face_boxes(self.points)

    @property
    def sizes(self) -> Float:
        """`(N,)` widths of the faces, pixels; see `align.face_sizes`."""
        return face_sizes(self.points)


def decode_faces(output: Float, height: int, width: int, threshold: float) -> Faces:
    """Faces from the output of a detector network, in pixels of its input.

    Args:
        output: `(R, 12)`, see the module.
        height: Height of the network's input.
        width: Width of the network's input.
        threshold: the least score, between 0 and 1.

    Raises:
        ValueError: the output does not fit the input, or the threshold is out of range.
    """
    check_threshold(threshold)
    centers = cell_centers(height, width)
    if output.shape != (len(centers), CHANNELS):
        raise ValueError(
            f"an input of {width}x{height} has {len(centers)} cells of {CHANNELS} channels; got {output.shape}"
        )
    logits = output[:, 0]
    (seen,) = (logits >= math.log(threshold / (1 - threshold))).nonzero()
    if not len(seen):
        return Faces(np.empty((0, 5, 2), np.float32), np.empty(0, np.float32))
    seen = seen[(-logits[seen]).argsort(kind="stable")[:CANDIDATES]]
    rows = output[seen].astype(np.float64)
    sizes = 64 * np.exp2(np.minimum(np.maximum(rows[:, 1] / 2, -8), 8))
    points = centers[seen, np.newaxis] + rows[:, 2:].reshape(-1, 5, 2) * (sizes / 8)[:, np.newaxis, np.newaxis]
    return vote_boxes(points, 1 / (1 + np.exp(-rows[:, 0])))


def vote_boxes(points: NDArray[np.float64], scores: NDArray[np.float64]) -> Faces:
    """Box voting: non-maximum suppression that averages the detections of a face instead of dropping all but the best.

    The best detection keeps its score; each of its points becomes the mean of those of all detections that overlap it,
    weighted by their scores. What lies inside of it, or around it, is dropped; then the same with what is left.
    Averaging steadies the points from frame to frame (Bazarevsky et al. 2019, "BlazeFace", section 3.4).

    Args:
        points: `(K, 5, 2)`, best first. Time and memory grow with the square of K.
        scores: `(K,)`, above 0.
    """
    finite = np.isfinite(points)
    if not finite.all():
        whole = finite.all(axis=(1, 2))
        points, scores = points[whole], scores[whole]
    if not len(points):
        return Faces(np.empty((0, 5, 2), np.float32), np.empty(0, np.float32))
    x, y, width, height = np.ascontiguousarray(face_boxes(points).T)
    areas = width * height
    shared = _common(x, width) * _common(y, height)
    column = areas[:, np.newaxis]
    sums, smaller = column + areas, np.minimum(column, areas)
    # Without a division, and so that a box without area overlaps nothing.
    near = shared * (1 + OVERLAP) > sums * OVERLAP
    near.flat[:: len(near) + 1] = True  # not even itself
    others = ~(near | ((shared > smaller * OVER_SMALLER) & (sums <= smaller * (1 + SIZE_RATIO))))
    left = np.ones(len(points), bool)
    best, groups = [], []
    for i in range(len(points)):
        if left[i]:
            best.append(i)
            groups.append(left & near[i])
            left &= others[i]
    weights = np.array(groups, np.float64).reshape(-1, len(points)) * scores**SCORE_EXPONENT
    voted = weights @ points.reshape(-1, 10) / weights.sum(axis=1, keepdims=True)
    return Faces(voted.reshape(-1, 5, 2).astype(np.float32), scores[best].astype(np.float32))


def _common(starts: Float, lengths: Float) -> Float:
    """What each two of these stretches of a line have in common, `(K, K)`."""
    ends = starts + lengths
    common: Float = np.minimum(ends[:, np.newaxis], ends)
    common -= np.maximum(starts[:, np.newaxis], starts)
    np.maximum(common, 0, out=common)
    return common


@lru_cache(maxsize=8)
def cell_centers(height: int, width: int) -> NDArray[np.float64]:
    """Centers of all cells of an input, `(R, 2)` x, y in its pixels, in the order of the network's rows."""
    parts = []
    for stride in STRIDES:
        y, x = np.mgrid[0 : math.ceil(height / stride), 0 : math.ceil(width / stride)]
        parts.append(np.stack([x.ravel(), y.ravel()], axis=1) * stride + (stride - 1) / 2)
    centers = np.concatenate(parts)
    centers.flags.writeable = False
    return centers


def box_overlaps(first: Float, second: Float) -> Float:
    """Intersection over union of boxes x, y, width, height: `(A, B)` for `(A, 4)` and `(B, 4)`; 0 without any area."""
    ends = (boxes[:, :2] + boxes[:, 2:] for boxes in (first, second))
    sides = np.minimum(next(ends)[:, np.newaxis], next(ends)) - np.maximum(first[:, np.newaxis, :2], second[:, :2])
    shared = np.maximum(sides, 0).prod(axis=2)
    areas = (first[:, 2] * first[:, 3])[:, np.newaxis] + second[:, 2] * second[:, 3]
    return np.asarray(shared / np.maximum(areas - shared, _NO_AREA), dtype=np.float32)


def check_threshold(threshold: float) -> None:
    if not 0 < threshold < 1:
        raise ValueError(f"the threshold of a face detector must be between 0 and 1; got {threshold}")

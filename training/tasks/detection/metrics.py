"""Faces as five points: what a detector learns of them, and how well it finds them.

Points are left eye, right eye, nose, left and right mouth corner as seen in the picture, x and y in pixels of the frame
with pixel centers at integers. Size and box of a face follow from its points alone, so that detectors with other habits
of drawing boxes compare.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import face_boxes, face_sizes
from slimcam.deploy.vision.detector_output import box_overlaps
from slimcam.training.data.detection.labels import BOX_OVERLAP, overlaps_by_hand

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]
Index = NDArray[np.int64]

SIZES = {"16-32": (16.0, 32.0), "32-64": (32.0, 64.0), "64+": (64.0, np.inf), "24+": (24.0, np.inf)}
"""Ranges of face sizes, pixels, that recall is reported for."""

PHOTO_SIZES = {"8-16": (8.0, 16.0), "16-24": (16.0, 24.0), "24-48": (24.0, 48.0), "48+": (48.0, np.inf)}
"""Those of boxes by hand in photographs: widths, pixels of the detector's input."""

IGNORED_OVERLAP = 0.5
"""Share of a find's box in an ignored one from which on it counts neither way."""


@dataclass(frozen=True)
class Match:
    """The faces found in one picture beside those that are there.

    Attributes:
        scores: `(M,)` of the faces found, best first.
        found_sizes: `(M,)`, pixels.
        truth: `(M,)`, which face each is, -1 for a false one.
        sizes: `(T,)` of the faces that are there, pixels.
        errors: `(M,)`, mean distance of the five points in percent of the true distance of the eyes; NaN for false
            ones, and where the true points are not known.
    """

    scores: Float
    found_sizes: Float
    truth: Index
    sizes: Float
    errors: Float


def match(
    points: NDArray[np.floating], scores: NDArray[np.floating], truth: NDArray[np.floating], overlap: float = 0.5
) -> Match:
    """Assigns faces found to the faces of a picture.

    Best score first, each takes the free face that its box overlaps most, if intersection over union is at least
    `overlap` (Everingham et al. 2010, "The PASCAL VOC Challenge", section 4.2; a free one, as in COCO). A second find
    of a face is false.

    Args:
        points: `(M, 5, 2)` found.
        scores: `(M,)`.
        truth: `(T, 5, 2)`.
    """
    found, there = np.asarray(points, np.float32).reshape(-1, 5, 2), np.asarray(truth, np.float32).reshape(-1, 5, 2)
    if len(found) != len(scores):
        raise ValueError(f"{len(found)} faces found, but {len(scores)} scores")
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    found, ranked = found[order], np.asarray(scores, np.float32)[order]
    assigned = _assigned(box_overlaps(face_boxes(found), face_boxes(there)), overlap)
    return Match(ranked, face_sizes(found), assigned, face_sizes(there), _errors(found, there, assigned))


def match_boxes(
    points: NDArray[np.floating],
    scores: NDArray[np.floating],
    boxes: NDArray[np.floating],
    ignored: NDArray[np.floating],
    truth: NDArray[np.floating] | None = None,
) -> Match:
    """Assigns faces found to boxes drawn by hand, as `match` does, by overlaps as `overlaps_by_hand` gives them.

    Finds that lie by half in an ignored region, and in no face's box, are left out: they are neither true nor false
    (Yang et al. 2016, "WIDER FACE", and Lin et al. 2014, COCO, do the same with what is not annotated).

    Args:
        points: `(M, 5, 2)` found.
        scores: `(M,)`.
        boxes: `(T, 4)` x, y, width, height of the faces that are there.
        ignored: `(K, 4)`.
        truth: `(T, 5, 2)`, points of these faces, NaN where they are not known.
    """
    order = np.argsort(-np.asarray(scores, np.float32), kind="stable")
    found, ranked = np.asarray(points, np.float32).reshape(-1, 5, 2)[order], np.asarray(scores, np.float32)[order]
    there, own = np.asarray(boxes, np.float32).reshape(-1, 4), face_boxes(found)
    assigned = _assigned(overlaps_by_hand(there, found).T, BOX_OVERLAP)
    kept = (assigned >= 0) | ~(_covered(own, np.asarray(ignored, np.float32).reshape(-1, 4)) >= IGNORED_OVERLAP)
    points = np.full((len(there), 5, 2), np.nan, np.float32) if truth is None else np.asarray(truth, np.float32)
    errors = _errors(found[kept], points, assigned[kept])
    return Match(ranked[kept], face_sizes(found[kept]), assigned[kept], there[:, 2], errors)


def _errors(found: Float, there: Float, assigned: Index) -> Float:
    """`Match.errors` of points found `(M, 5, 2)`, given which of the true ones `(T, 5, 2)` each find is of."""
    errors = np.full(len(found), np.nan, dtype=np.float32)
    hit = assigned >= 0
    eyes = np.linalg.norm(there[:, 0] - there[:, 1], axis=1)
    off = np.linalg.norm(found[hit] - there[assigned[hit]], axis=2).mean(axis=1)
    errors[hit] = 100 * off / np.maximum(eyes[assigned[hit]], 1e-6)
    return errors


def _assigned(overlaps: Float, least: float) -> Index:
    """Which face each find is of, best find first: the free one that it overlaps most, -1 below the least."""
    assigned = np.full(len(overlaps), -1, dtype=np.int64)
    for i in range(len(overlaps) if overlaps.shape[1] else 0):
        best = int(np.argmax(overlaps[i]))
        if overlaps[i, best] >= least:
            assigned[i] = best
            overlaps[:, best] = -1
    return assigned


def _covered(boxes: Float, others: Float) -> Float:
    """The largest share of each box `(A,)` that lies in one of the others."""
    ends = np.minimum((boxes[:, :2] + boxes[:, 2:])[:, None], others[:, :2] + others[:, 2:])
    sides = np.maximum(ends - np.maximum(boxes[:, None, :2], others[:, :2]), 0)
    shares = sides[..., 0] * sides[..., 1] / np.maximum(boxes[:, 2] * boxes[:, 3], 1e-12)[:, None]
    return np.asarray(shares.max(axis=1, initial=0), dtype=np.float32)


def average_precision(matches: Sequence[Match], sizes: tuple[float, float] = (0.0, np.inf)) -> float | None:
    """Area under precision over recall, precision made monotone; `None` where there is no face.

    Everingham et al. 2015, "The PASCAL VOC Challenge: A Retrospective", section 2.2 (all points, not eleven). Finds of
    equal score are accepted together, as one threshold does.

    Args:
        matches: one for each picture.
        sizes: least size, and the size that is too large, of the faces that count, pixels. Finds of other faces count
            neither way, false finds by their own size (Lin et al. 2014, COCO).
    """
    total = sum(int(_within(match.sizes, sizes).sum()) for match in matches)
    if not total:
        return None
    scores, hits = [], []
    for match in matches:
        real = match.truth >= 0
        own = match.found_sizes.copy()
        own[real] = match.sizes[match.truth[real]]
        counts = _within(own, sizes)
        scores.append(match.scores[counts])
        hits.append(real[counts])
    score, hit = np.concatenate(scores), np.concatenate(hits)
    order = np.argsort(-score, kind="stable")
    score, hit = score[order], hit[order]
    last = np.append(score[1:] != score[:-1], True) if len(score) else np.zeros(0, dtype=bool)
    true = np.cumsum(hit)[last]
    precision = true / (np.flatnonzero(last) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(true, prepend=0) * envelope) / total)


@dataclass(frozen=True)
class Recall:
    """Which faces are found at one threshold.

    Attributes:
        threshold: Score from which on a detection counts.
        found: `(T,)` of all faces, picture by picture. Two detectors' on the same pictures are what
            `slimcam.training.tasks.bootstrap.paired_bootstrap` takes, whole or `found[within(...)]`; it draws faces,
            not pictures.
        sizes: `(T,)`, pixels.
        scenes: `(T,)`, the picture that each face is in.
        errors: `(T,)`, percent of the distance of the eyes; NaN where the face is not found, or its
            points are not known.
        false_positives: `(S,)`, false finds of each picture.
    """

    threshold: float
    found: Bool
    sizes: Float
    scenes: Index
    errors: Float
    false_positives: Index

    def within(self, sizes: tuple[float, float]) -> Bool:
        """`(T,)`, which faces have a size from the first figure on and below the second."""
        return _within(self.sizes, sizes)

    def share(self, sizes: tuple[float, float] = (0.0, np.inf)) -> float | None:
        """The share of the faces of these sizes that is found; `None` where there is none."""
        within = self.within(sizes)
        return float(self.found[within].mean()) if within.any() else None

    def by_size(self, ranges: Mapping[str, tuple[float, float]] = SIZES) -> dict[str, float | None]:
        """The share of the faces of each range of sizes that is found."""
        return {name: self.share(sizes) for name, sizes in ranges.items()}


def recall_at(matches: Sequence[Match], fppi: float) -> Recall:
    """The faces found at the lowest threshold with at most `fppi` false finds a picture, of any size.

    Jain and Learned-Miller 2010, "FDDB", section 6, which reports recall over the number of false finds.

    Args:
        matches: one for each picture.

    Raises:
        ValueError: there is no picture.
    """
    if not matches:
        raise ValueError("recall needs a picture at the least")
    false = np.sort(np.concatenate([match.scores[match.truth < 0] for match in matches]))[::-1]
    allowed = int(fppi * len(matches) + 1e-9)
    # Just above the first false find that is too many.
    threshold = float(np.nextafter(false[allowed], np.float32(np.inf))) if len(false) > allowed else -np.inf
    return found_at(matches, threshold)


def found_at(matches: Sequence[Match], threshold: float) -> Recall:
    """The faces found with scores from `threshold` on."""
    found, errors, false = [], [], []
    for match in matches:
        accepted = match.scores >= threshold
        error = np.full(len(match.sizes), np.nan, dtype=np.float32)
        hit = accepted & (match.truth >= 0)
        error[match.truth[hit]] = match.errors[hit]
        errors.append(error)
        found.append(np.isin(np.arange(len(match.sizes)), match.truth[hit]))
        false.append(int(np.sum(accepted & (match.truth < 0))))
    return Recall(
        threshold=threshold,
        found=np.concatenate(found) if found else np.zeros(0, dtype=bool),
        sizes=np.concatenate([match.sizes for match in matches]) if matches else np.zeros(0, dtype=np.float32),
        scenes=np.repeat(np.arange(len(matches)), [len(match.sizes) for match in matches]),
        errors=np.concatenate(errors) if errors else np.zeros(0, dtype=np.float32),
        false_positives=np.array(false, dtype=np.int64),
    )


@dataclass(frozen=True)
class LandmarkError:
    """How far off the points of faces are, in percent of the true distance of the eyes, over the faces found."""

    mean: float
    median: float
    faces: int


def landmark_error(recall: Recall, sizes: tuple[float, float] = (0.0, np.inf)) -> LandmarkError | None:
    """Mean over the faces found of the mean distance of their five points, and the median; `None` where none is found.

    Normalized by the distance of the eyes (Jesorsky et al. 2001, "Robust face detection using the Hausdorff distance").
    Each face's own error is in `recall.errors`.

    Args:
        sizes: of the faces that count, pixels.
    """
    errors = recall.errors[recall.found & recall.within(sizes) & np.isfinite(recall.errors)]
    if not len(errors):
        return None
    return LandmarkError(float(errors.mean()), float(np.median(errors)), len(errors))


def _within(values: Float, sizes: tuple[float, float]) -> Bool:
    return np.asarray((values >= sizes[0]) & (values < sizes[1]))

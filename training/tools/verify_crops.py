"""How well a recognizer tells people apart by the crops that detectors' points give."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.text_table import grid
from slimcam.deploy.vision.align import align
from slimcam.deploy.vision.detector import Detector
from slimcam.deploy.vision.detector_output import Faces
from slimcam.training.data.images import existing, read_picture
from slimcam.training.data.recognition.faces import Pairs
from slimcam.training.data.recognition.lfw import read_pairs
from slimcam.training.tasks.bootstrap import paired_bootstrap
from slimcam.training.tasks.recognition import verification
from slimcam.training.tasks.recognition.config import TeacherConfig
from slimcam.training.tasks.recognition.teacher import open_teacher

Float = NDArray[np.float32]


def verify_crops(root: Path, detectors: Mapping[str, Detector], reference: str, teacher: Path) -> list[str]:
    """The accuracy of a recognizer by the crops of each detector, as lines of a table.

    Args:
        root: Folder with `lfw112/pairsDevTest.txt`, `detect/test.csv` and `detect/test/`.
        reference: The detector that the others' changes are of.
        teacher: Model file of the recognizer.
    """
    rows = read_pairs(root / "lfw112" / "pairsDevTest.txt")
    names = sorted({_name(*shown) for first, second, _, _ in rows for shown in (first, second)})
    place = {name: index for index, name in enumerate(names)}
    pairs = Pairs(
        left=np.array([place[_name(*first)] for first, _, _, _ in rows], dtype=np.int32),
        right=np.array([place[_name(*second)] for _, second, _, _ in rows], dtype=np.int32),
        same=np.array([same for _, _, same, _ in rows]),
        fold=np.array([fold for _, _, _, fold in rows], dtype=np.int32),
    )
    photos = [read_picture(existing(root / "detect" / "test" / name)) for name in names]
    teach = open_teacher(TeacherConfig(path=str(teacher), flip=False))
    listed = _listed(root / "detect" / "test.csv", names)
    crops = {"points of the list": [align(photo, points) for photo, points in zip(photos, listed, strict=True)]}
    missed = {"points of the list": 0}
    for name, detector in detectors.items():
        points = [_central(detector.detect(photo), photo) for photo in photos]
        missed[name] = sum(each is None for each in points)
        usual = np.mean([each for each in points if each is not None], axis=0)
        crops[name] = [
            align(photo, usual if each is None else each) for photo, each in zip(photos, points, strict=True)
        ]
    accuracies = {}
    for name, faces in crops.items():
        embeddings = np.concatenate(
            [teach(np.stack(faces[start : start + 32])).embeddings for start in range(0, len(faces), 32)]
        )
        accuracies[name] = verification.fold_accuracy(verification.pair_scores(embeddings, pairs), pairs)
    table = [("aligned by", "accuracy", f"change from {reference}'s", "faces missed")]
    for name, accuracy in accuracies.items():
        change = paired_bootstrap(accuracy.correct, accuracies[reference].correct)
        interval = f"{100 * change.difference:+.1f} ({100 * change.low:+.1f} to {100 * change.high:+.1f})"
        table.append((name, f"{100 * accuracy.mean:.1f} %", "" if name == reference else interval, str(missed[name])))
    return [f"{teacher.name} on {len(pairs):,} pairs, {len(names):,} photos", grid(table)]


def _name(person: str, number: int) -> str:
    return f"{person}_{number:04d}.jpg"


def _listed(path: Path, names: Sequence[str]) -> list[Float]:
    """The points of a list for each of some photos."""
    columns = [f"{point}{axis}" for point in ("l", "r", "n", "ml", "mr") for axis in "xy"]
    with existing(path).open(newline="", encoding="utf-8") as lines:
        known = {
            row["path"]: np.array([float(row[name]) for name in columns], dtype=np.float32).reshape(5, 2)
            for row in csv.DictReader(lines)
        }
    absent = [name for name in names if name not in known]
    if absent:
        raise ValueError(f"{path}: it lacks {len(absent)} photos of the pairs, the first is {absent[0]}")
    return [known[name] for name in names]


def _central(faces: Faces, photo: NDArray[np.uint8]) -> Float | None:
    """The points of the face nearest to the middle of a photo, which is whom it is of (Huang et al. 2007, LFW)."""
    if not len(faces):
        return None
    middle = (np.array(photo.shape[1::-1]) - 1) / 2
    nearest = np.linalg.norm(faces.points.mean(axis=1) - middle, axis=1).argmin()
    return np.asarray(faces.points[nearest], dtype=np.float32)

"""Photos of one face each with its landmarks, from the lists of a folder, and aligned crops of other people."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.align import TEMPLATE, face_sizes, similarity
from slimcam.training.data.detection.relabel import averaged
from slimcam.training.data.detection.scene import Picture
from slimcam.training.data.images import decode, existing, read_bytes
from slimcam.training.data.recognition.lfw import read_people

Float = NDArray[np.float32]

_POINTS = ("lx", "ly", "rx", "ry", "nx", "ny", "mlx", "mly", "mrx", "mry")
_COLUMNS = ("path", "faces_found", *_POINTS)

# Distance of points from where the template would have them, in sizes of the face. The farthest of 13,233 photos of LFW
# is 0.26; eyes that are swapped are at 0.6.
_ODD = 0.35


class _Left:
    """What is left out: how often, why, and the first of each kind."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def out(self, reason: str, example: str) -> None:
        self._first.setdefault(reason, example)
        self._count[reason] = self._count.get(reason, 0) + 1

    @property
    def notes(self) -> list[str]:
        return [f"left out {self._count[why]} {why}, the first of them {first}" for why, first in self._first.items()]


def read_single_faces(
    root: Path, labeler: Path | None, cache: Path
) -> tuple[list[Picture], list[Picture], list[Picture], list[str]]:
    """Photos of one face each to train on, those to be evaluated by, aligned crops to train on, and what is left out.

    The people to be evaluated by are not among those to train on.

    Args:
        root: Folder with `detect/{train,test}.csv`, their photos beside them, and `lfw112`.
        labeler: YuNet's .onnx file, which finds the points again; without, they are those of the lists.
        cache: Folder that its answers are kept in.

    Raises:
        FileNotFoundError: a list does not exist.
        ValueError: a list is not one, or no photo is left to train on or to be evaluated by.
        OSError: a list cannot be read, or the cache not be written.
    """
    left = _Left()
    detect = root / "detect"
    tested = _labeled(detect / "test.csv", left)
    learned = _labeled(detect / "train.csv", left)
    people = {_person(path) for path, _ in tested}
    train = _pictures([row for row in learned if _new(row[0], people, left)], detect / "train", left)
    test = _pictures(tested, detect / "test", left)
    for name, pictures in (("train.csv", train), ("test.csv", test)):
        if not pictures:
            raise ValueError(f"data: no picture of {detect / name} is usable; {'; '.join(left.notes) or 'it is empty'}")
    crops = _crops(root / "lfw112", people, left)
    notes = left.notes
    if labeler is not None:
        (train, test, crops), note = _labeled_anew((train, test, crops), labeler, cache)
        notes.append(note)
    return train, test, crops, notes


def _labeled_anew(sets: Sequence[list[Picture]], labeler: Path, cache: Path) -> tuple[list[list[Picture]], str]:
    """Lists of pictures with points that are means of a detector's answers, and what to say of it."""
    found = [averaged(pictures, labeler, cache) for pictures in sets]
    kept = sum(count for _, count in found)
    note = f"points are means of what {labeler.name} says of 12 views; {kept:,} pictures keep those of their list"
    return [pictures for pictures, _ in found], note


def _labeled(path: Path, left: _Left) -> list[tuple[str, Float]]:
    """The file names of a list and the points in them, `(5, 2)`, where all faces of the picture are labeled."""
    rows: list[tuple[str, Float]] = []
    for line, row in _rows(path):
        points = _points(row)
        if points is None:
            left.out(f"rows of {path.name} with missing or senseless fields", f"line {line}")
        elif int(row["faces_found"] or 0) != 1:
            left.out(f"pictures of {path.name} with several faces, of which one is labeled", str(row["path"]))
        else:
            rows.append((str(row["path"]), points))
    return rows


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str | None]]]:
    """The rows of a list by the number of their line."""
    try:
        with existing(path).open(newline="", encoding="utf-8", errors="replace") as lines:
            reader = csv.DictReader(lines, restval=None)
            absent = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
            if absent:
                raise ValueError(f"{path}: not a list of faces; it lacks the columns {', '.join(absent)}")
            for row in reader:
                yield reader.line_num, row
    except csv.Error as error:
        raise ValueError(f"{path}: not a list of faces ({error})") from error


def _points(row: Mapping[str, str | None]) -> Float | None:
    """The points of a row; `None` where fields are missing or cannot be those of a face."""
    try:
        found = int(row["faces_found"] or 0)
        points = np.array([float(row[name] or "nan") for name in _POINTS], dtype=np.float32).reshape(5, 2)
    except ValueError:
        return None
    if found < 1 or not row["path"] or not np.isfinite(points).all():
        return None
    size = float(face_sizes(points)[0])
    if size < 4:
        return None
    off = np.linalg.norm(_on(similarity(TEMPLATE, points), TEMPLATE) - points, axis=1).mean()
    return points if off < _ODD * size else None


def _pictures(rows: Sequence[tuple[str, Float]], folder: Path, left: _Left) -> list[Picture]:
    """The pictures of rows that can be read and hold the face, kept as the bytes of their files."""
    with ThreadPoolExecutor() as pool:
        shapes = list(pool.map(lambda row: _contents(folder / row[0]), rows))
    pictures = []
    for (name, points), (pixels, shape) in zip(rows, shapes, strict=True):
        if shape is None:
            left.out(f"pictures of {folder.parent.name}/{folder.name} that cannot be read", name)
        elif not (np.all(points.mean(axis=0) >= 0) and np.all(points.mean(axis=0) <= np.array(shape[::-1]) - 1)):
            left.out(f"pictures of {folder.parent.name}/{folder.name} that end before their face", name)
        else:
            pictures.append(Picture(pixels, points))
    return pictures


def _contents(path: Path) -> tuple[NDArray[np.uint8], tuple[int, int] | None]:
    """The bytes of an image file, and height and width of the image; `None` where it cannot be read."""
    pixels = read_bytes(path)
    image = decode(pixels)
    return pixels, None if image is None else image.shape[:2]


def _crops(folder: Path, people: set[str], left: _Left) -> list[Picture]:
    """The aligned crops of people to train on, one alone in the photo if its landmarks are at hand."""
    names = folder / "peopleDevTrain.txt"
    if not names.is_file():
        left.out("folders of aligned crops", f"{folder.name}: no {names.name} in it")
        return []
    landmarks = folder / "images_landmarks.csv"
    trained = read_people(names)
    rows: list[tuple[str, Float]] = []
    if landmarks.is_file():
        for path, points in _labeled(landmarks, left):
            # The crop was made of these points, which so lie about the template and not on it.
            rows.append((path, _on(similarity(points, TEMPLATE), points).astype(np.float32)))
    else:
        found = (path for name in sorted(trained) for path in sorted((folder / "images" / name).glob("*.jpg")))
        rows = [(path.relative_to(folder / "images").as_posix(), TEMPLATE) for path in found]
    known = [row for row in rows if Path(row[0]).parent.name in trained and _new(Path(row[0]).name, people, left)]
    return _pictures(known, folder / "images", left)


def _on(matrix: NDArray[np.float64], points: Float) -> NDArray[np.float64]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def _new(path: str, people: set[str], left: _Left) -> bool:
    """Whether a picture shows none of the people that the detector is evaluated by."""
    if _person(path) not in people:
        return True
    left.out("pictures to train on of people to be evaluated by", path)
    return False


def _person(path: str) -> str:
    """Who is in `Name_Surname_0001.jpg`."""
    return Path(path).stem.rpartition("_")[0] or Path(path).stem

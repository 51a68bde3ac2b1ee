"""Sets of real photographs to train on: read, freed of copies and of what must stay out, and labeled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.vision.image_files import picture_size
from slimcam.training.data.detection.copies import copy_groups, thumbnail
from slimcam.training.data.detection.finds import FINDS_VERSION, finds_in
from slimcam.training.data.detection.kept import kept_for_pictures
from slimcam.training.data.detection.labels import (
    FACE_LABELS_VERSION,
    NO_FACES,
    Answers,
    FaceLabels,
    answers,
    drawing_habit,
    face_labels,
    sides,
)
from slimcam.training.data.detection.photo_scenes import PHOTO_SCENES_VERSION, LabeledPhotograph
from slimcam.training.data.detection.photographs import IMAGES, Photograph, read_photographs
from slimcam.training.data.images import decode, existing

LONGEST = 800
"""Longer side of a photograph in memory, pixels: enough for a face to be cut out of it at 2.5 times its size in the
whole, and quick to decode."""

_QUALITY = 92


def load_photographs(
    folders: Sequence[Path],
    backgrounds: Sequence[Path],
    kept_out: Sequence[Path],
    left_out: Path | None,
    labeler: Path,
    cache: Path,
) -> tuple[list[LabeledPhotograph], list[str]]:
    """The photographs of some sets with their faces, and a line for each set and each thing left out.

    Of copies that people boxed one stays, the first with the most boxes; those without boxes stay, for frames of one
    camera are alike though there are other people in them. A photograph is left out, with all of its copies, where a
    list names it or it is also in a set that is kept out. So are photographs that nobody boxed and in which the labeler
    is sure of no face: some stand on their heads, and in others all faces are too small for it. Of the backgrounds
    those photographs are left out in which it is sure of one, or somebody boxed one.

    Args:
        folders: A set each.
        backgrounds: Sets of photographs that show no faces.
        kept_out: Sets to evaluate detectors by.
        left_out: Table of photographs that must stay out, a line each: name of the set's folder, tab, path in it.
        labeler: YuNet's .onnx file.
        cache: Folder for what is made of photographs once.

    Raises:
        FileNotFoundError: a folder or the list is not there.
        ValueError: a set or a list is none, the labeler is no such detector, or no photograph is left.
        OSError: the cache cannot be written.
    """
    sets = [(folder.name, read_photographs(folder)) for folder in [*folders, *backgrounds]]
    evaluated = [photograph for folder in kept_out for photograph in read_photographs(folder)]
    names = [(name, photograph.name) for name, photographs in sets for photograph in photographs]
    everything = [photograph for _, photographs in sets for photograph in photographs]
    groups = copy_groups(_thumbnails([*(each.path for each in everything), *(each.path for each in evaluated)], cache))
    forbidden = set(groups[len(everything) :].tolist())
    listed = _listed(left_out) if left_out is not None else set()
    forbidden |= {int(group) for name, group in zip(names, groups, strict=False) if name in listed}
    best: dict[int, int] = {}
    for index in sorted(range(len(everything)), key=lambda index: -len(everything[index].boxes)):
        best.setdefault(int(groups[index]), index)
    kept = {
        index
        for index, photograph in enumerate(everything)
        if groups[index] not in forbidden and (not photograph.boxed or best[int(groups[index])] == index)
    }
    found: list[LabeledPhotograph] = []
    notes, start = [], 0
    for place, (name, photographs) in enumerate(sets):
        chosen = [each for number, each in enumerate(photographs, start) if number in kept]
        start += len(photographs)
        if place >= len(folders):
            labeled, faces = _faceless(chosen, labeler, cache)
            found += labeled
            notes.append(
                f"{name}: {len(labeled):,} of {len(photographs):,} photographs as backgrounds; left out "
                f"{len(photographs) - len(chosen):,} copies and photographs that are kept out, and {faces:,} with faces"
            )
            continue
        labeled, faceless = _labeled(chosen, labeler, cache)
        found += labeled
        faces = sum(len(each.labels.points) for each in labeled)
        boxed = sum(int(each.labels.boxed.sum()) for each in labeled)
        notes.append(
            f"{name}: {len(labeled):,} of {len(photographs):,} photographs with {faces:,} faces, {boxed:,} of them "
            f"known by their box alone; left out {len(photographs) - len(chosen):,} copies and photographs that are "
            f"kept out, and {faceless:,} without a box or a sure find"
        )
    if not found:
        raise ValueError(f"data.photos: no photograph is left to train on; {'; '.join(notes)}")
    return found, notes


def fingerprint(
    folders: Sequence[Path],
    backgrounds: Sequence[Path],
    kept_out: Sequence[Path],
    left_out: Path | None,
    labeler: Path | None,
) -> str:
    """A digest of what the photographs to train on and to evaluate by are made of: the same in another place."""
    total = hashlib.sha256(f"{PHOTO_SCENES_VERSION} {FACE_LABELS_VERSION} {FINDS_VERSION}".encode())
    if labeler is not None:
        total.update(file_sha256(existing(labeler)).encode())
    if left_out is not None:
        total.update(existing(left_out).read_bytes())
    for role, sets in (("train", folders), ("background", backgrounds), ("judge", kept_out)):
        for folder in sets:
            total.update(f"{role} {folder.name}\n".encode())
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                content = path.stat().st_size if path.suffix.lower() in IMAGES else file_sha256(path)
                total.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return total.hexdigest()


def _listed(path: Path) -> set[tuple[str, str]]:
    rows = [line.split("\t") for line in existing(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(row) != 2 for row in rows):
        raise ValueError(f"{path}: each line is the name of a set, a tab, and the path of a photograph in it")
    return {(name, photograph.strip()) for name, photograph in rows}


def _thumbnails(files: Sequence[Path], cache: Path) -> list[NDArray[np.float32]]:
    """A thumbnail of each file, zeros where it is no picture."""

    def small(pixels: NDArray[np.uint8]) -> bytes:
        image = decode(pixels)
        return (thumbnail(np.zeros((16, 16, 3), np.uint8)) if image is None else thumbnail(image)).tobytes()

    kept = kept_for_pictures(files, cache / "thumbnails-1.db", small, "looking for copies among photographs")
    return [np.frombuffer(content, np.float32).reshape(16, 16) for content in kept]


def _labeled(photographs: Sequence[Photograph], labeler: Path, cache: Path) -> tuple[list[LabeledPhotograph], int]:
    """Photographs of one set with their faces, and how many are left out for want of any."""
    shapes = [sides(photograph) for photograph in photographs]
    found = _answers(photographs, shapes, labeler, cache)
    habit = drawing_habit(photographs, found)
    labeled = []
    for photograph, seen, shape, content in zip(photographs, found, shapes, _contents(photographs, cache), strict=True):
        labels = face_labels(photograph, seen, habit)
        if content and (photograph.boxed or len(labels.points)):
            labeled.append(LabeledPhotograph(*_scaled(np.frombuffer(content, np.uint8), labels, shape)))
    return labeled, len(photographs) - len(labeled)


def _faceless(photographs: Sequence[Photograph], labeler: Path, cache: Path) -> tuple[list[LabeledPhotograph], int]:
    """Photographs of one set of backgrounds, and how many are left out for the faces in them."""
    found = _answers(photographs, [sides(photograph) for photograph in photographs], labeler, cache)
    labeled = [
        LabeledPhotograph(np.frombuffer(content, np.uint8), NO_FACES)
        for photograph, seen, content in zip(photographs, found, _contents(photographs, cache), strict=True)
        if content and not len(photograph.boxes) and not seen.sure.any()
    ]
    return labeled, len(photographs) - len(labeled)


def _answers(
    photographs: Sequence[Photograph], shapes: Sequence[tuple[int, int]], labeler: Path, cache: Path
) -> list[Answers]:
    """What a labeler finds in each photograph, `shapes` their heights and widths."""
    finds = finds_in([photograph.path for photograph in photographs], labeler, cache)
    return [answers(rows, *shape) for rows, shape in zip(finds, shapes, strict=True)]


def _contents(photographs: Sequence[Photograph], cache: Path) -> Iterator[bytes]:
    """The bytes of the shrunk photographs, none of what is no picture."""
    paths = [photograph.path for photograph in photographs]
    return kept_for_pictures(paths, cache / f"shrunk-{LONGEST}.db", _shrunk, "shrinking photographs")


def _shrunk(pixels: NDArray[np.uint8]) -> bytes:
    """The bytes of a picture file, at most `LONGEST` pixels long; none where it is no picture."""
    image = decode(pixels)
    if image is None:
        return b""
    height, width = image.shape[:2]
    scale = LONGEST / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, code = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return bytes(code)


def _scaled(
    pixels: NDArray[np.uint8], labels: FaceLabels, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], FaceLabels]:
    """A shrunk picture and the labels of the original, `shape` its height and width, in pixels of it."""
    width, height = picture_size(pixels.tobytes()) or shape[::-1]
    factor = np.array([width / shape[1], height / shape[0]], dtype=np.float32)
    points = (labels.points + np.float32(0.5)) * factor - np.float32(0.5)
    return pixels, replace(labels, points=points, ignored=labels.ignored * np.tile(factor, 2))

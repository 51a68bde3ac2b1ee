"""Photographs with faces boxed by people, as lists in the formats of Pascal VOC, YOLO and WIDER FACE tell of them.

A set is a folder. Where its images lie is told by convention: an image and its labels have the same path but for
folders named `images` and `labels`, or `JPEGImages` and `Annotations`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.image_files import picture_size
from slimcam.training.data.images import read_bytes

Float = NDArray[np.float32]

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}

_WIDER = "*_bbx_gt.txt"
_NAMES = ("classes.txt", "obj.names", "data.yaml", "dataset.yaml")
"""Files in which a YOLO set names its classes, at its top."""

_FOLDERS = {"images", "labels", "jpegimages", "annotations"}
"""Folders by which alone the paths of an image and of its labels differ."""

_DTYPE = np.float32


@dataclass(frozen=True)
class Photograph:
    """A photograph and what people say of it.

    Attributes:
        path: The image file.
        name: Its path in its set.
        boxes: `(N, 4)` float32: x, y, width, height of the faces, pixels; the image's edges are at 0 and its sides.
        labels: What each box is said to be, `N` names.
        ignored: `(N,)`, boxes that count neither as faces nor as anything else: marked as difficult (VOC) or invalid
            (WIDER), or without an area.
        boxed: Whether people drew boxes; without, nothing is known of the faces.
    """

    path: Path
    name: str
    boxes: Float
    labels: tuple[str, ...]
    ignored: NDArray[np.bool_]
    boxed: bool = True


def read_photographs(folder: Path) -> list[Photograph]:
    """The photographs of a set, in the order of their names.

    A file `*_bbx_gt.txt` makes it a WIDER set, an .xml file beside an image a VOC one, a .txt file a YOLO one. Where
    there is none of these, the photographs have no boxes; in a set with some, images without a list of labels are left
    out, for whether they hold faces is not known.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there is no image in it, or a list is none; begins with the file.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"photographs: no folder {folder}")
    images = {
        _stem(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGES
    }
    if not images:
        raise ValueError(f"{folder}: no JPEG, PNG, BMP or WebP image in it")
    lists = sorted(folder.rglob(_WIDER))
    if lists:
        return [photograph for path in lists for photograph in _wider(path, folder, images)]
    xml, text = (_labels(folder, suffix, images) for suffix in (".xml", ".txt"))
    if xml:
        return [_photograph(folder, images[stem], _voc(path)) for stem, path in xml.items()]
    if text:
        names = _class_names(folder)
        return [_photograph(folder, images[stem], _yolo(path, images[stem], names)) for stem, path in text.items()]
    return [_photograph(folder, path, [], boxed=False) for path in images.values()]


_Row = tuple[Sequence[float], str, bool]
"""Box, label, and whether it is to be ignored."""


def _photograph(folder: Path, path: Path, rows: Sequence[_Row], *, boxed: bool = True) -> Photograph:
    boxes = np.array([row[0] for row in rows], dtype=_DTYPE).reshape(-1, 4)
    ignored = np.array([row[2] for row in rows], dtype=bool) | (boxes[:, 2:].min(axis=1, initial=np.inf) <= 0)
    name = path.relative_to(folder).as_posix()
    return Photograph(path, name, boxes, tuple(row[1] for row in rows), ignored, boxed)


def _stem(path: Path) -> str:
    """What an image and its labels have in common."""
    return "/".join([*(part for part in path.parts[:-1] if part.lower() not in _FOLDERS), path.stem])


def _labels(folder: Path, suffix: str, images: dict[str, Path]) -> dict[str, Path]:
    """The lists of labels that have an image, by their stems."""
    found = {_stem(path.relative_to(folder)): path for path in sorted(folder.rglob(f"*{suffix}"))}
    return {stem: path for stem, path in found.items() if stem in images}


def _voc(path: Path) -> list[_Row]:
    """The boxes of a Pascal VOC annotation, whose pixels are counted from 1 and whose last ones belong to the box."""
    try:
        objects = list(ElementTree.parse(path).getroot().iter("object"))
        rows: list[_Row] = []
        for each in objects:
            left, top, right, bottom = (float(each.findtext(f"bndbox/{side}", "")) for side in _SIDES)
            difficult = each.findtext("difficult", "0").strip() == "1"
            rows.append(((left - 1, top - 1, right - left + 1, bottom - top + 1), each.findtext("name", ""), difficult))
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{path}: not a list of boxes as Pascal VOC has it ({error})") from error
    return rows


_SIDES = ("xmin", "ymin", "xmax", "ymax")


def _yolo(path: Path, image: Path, names: Sequence[str]) -> list[_Row]:
    """The boxes of a YOLO list: rows of class, center x and y, width and height, as shares of the image's sides."""
    size = picture_size(read_bytes(image).tobytes())
    if size is None:
        return []
    rows: list[_Row] = []
    for number, line in _lines(path):
        try:
            kind, *place = line.split()
            x, y, w, h = (float(value) for value in place[:4])
            label = int(kind)
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is no class and box as YOLO has them: {line[:60]}") from error
        box = ((x - w / 2) * size[0], (y - h / 2) * size[1], w * size[0], h * size[1])
        rows.append((box, names[label] if 0 <= label < len(names) else str(label), False))
    return rows


def _class_names(folder: Path) -> list[str]:
    """The names of the classes of a YOLO set, none where it does not tell them."""
    for path in (folder / name for name in _NAMES):
        if not path.is_file():
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".yaml":
            # Only `names: [...]`: what else a file of a training program says is of no concern here.
            found = re.search(r"^names:\s*\[(.*?)\]", text, re.MULTILINE | re.DOTALL)
            return [name.strip().strip("'\"") for name in found[1].split(",")] if found else []
        return [line.strip() for line in text.splitlines() if line.strip()]
    return []


def _wider(path: Path, folder: Path, images: dict[str, Path]) -> Iterator[Photograph]:
    """The photographs of a WIDER FACE list: the name of an image, the number of its faces, and a row for each.

    A row is x, y, width, height, blur, expression, illumination, invalid, occlusion, pose (Yang et al. 2016). An image
    without faces has the number 0 and a row of zeros. Images that are not there are left out.
    """
    by_tail = {tail: image for stem, image in images.items() for tail in _tails(stem)}
    lines = [line for _, line in _lines(path)]
    place = 0
    while place < len(lines):
        name = lines[place]
        try:
            count = int(lines[place + 1])
            rows = [[float(value) for value in line.split()] for line in lines[place + 2 : place + 2 + max(count, 1)]]
            if len(rows) < count or min((len(row) for row in rows), default=4) < 4:
                raise ValueError("rows are missing or short")
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: {name[:60]}: not a list as WIDER FACE has it ({error})") from error
        place += 2 + max(count, 1)
        image = by_tail.get(Path(name).with_suffix("").as_posix())
        if image is not None:
            yield _photograph(folder, image, [_wider_row(row) for row in rows[:count]])


def _wider_row(row: Sequence[float]) -> _Row:
    pose = "" if len(row) < 10 else ("profile or bent" if row[9] else "frontal")
    return row[:4], pose, len(row) > 7 and row[7] == 1


def _tails(stem: str) -> Iterator[str]:
    parts = stem.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a list that are not empty, with their numbers from 1 on."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]

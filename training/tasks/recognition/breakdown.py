"""Errors of groups of people: those whose photos, or who themselves, share the value of an attribute.

As in NIST's FRVT part 3 (Grother et al. 2019, section 4) the threshold is one for all, that of a false-accept rate over
all faces, and each group's own rates at it are compared.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Images, Selection, existing
from slimcam.training.data.recognition.faces import Verification
from slimcam.training.data.recognition.folders import FileImages
from slimcam.training.tasks.recognition.verification import Bool, Float, impostor_scores, pair_scores

LEAST_PAIRS = 20
"""Groups with fewer genuine or impostor pairs are left out."""


@dataclass(frozen=True)
class Group:
    """The errors of one group.

    Attributes:
        attribute: Name of the attribute.
        value: Value of both faces of a pair.
        images: Number of images of the group.
        genuine: Number of genuine pairs of the protocol within the group.
        impostors: Number of impostor pairs within the group: all pairs of images of different people.
        accuracy: Share of the protocol's pairs within the group that are decided right.
        tar: Share of the genuine pairs accepted at the common threshold.
        far: Share of the impostor pairs accepted at the common threshold.
    """

    attribute: str
    value: str
    images: int
    genuine: int
    impostors: int
    accuracy: float
    tar: float
    far: float


def read_attributes(path: Path) -> dict[str, dict[str, str]]:
    """The attributes of each person or image, by the first column: a person's name, `person/file.jpg` or `file.jpg`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file has no column beside the first.
    """
    with existing(path).open(newline="", encoding="utf-8") as lines:
        reader = csv.DictReader(lines)
        key, *names = reader.fieldnames or [""]
        if not names:
            raise ValueError(f"{path}: expected a first column with people or images, and a column for each attribute")
        return {row[key]: {name: row[name] or "" for name in names} for row in reader}


def values_of(faces: Verification, known: Mapping[str, Mapping[str, str]]) -> dict[str, NDArray[Any]]:
    """The value of each attribute for each image, `(N,)` text, empty where it is not known.

    Raises:
        ValueError: none of the images or people is among the known ones.
    """
    people = [faces.faces.identities[label] if label >= 0 else "" for label in faces.faces.labels]
    files: Sequence[Path | None] = _files(faces.faces.images) or [None] * len(people)
    rows = []
    for person, file in zip(people, files, strict=True):
        names = [person] if file is None else [f"{file.parent.name}/{file.name}", file.name, file.stem, person]
        rows.append(next((known[name] for name in names if name in known), {}))
    attributes = dict.fromkeys(name for row in known.values() for name in row)
    if not any(rows):
        some = next(iter(known), "")
        raise ValueError(f"attributes: none of the people or images is in the file, which names for example {some!r}")
    return {name: np.array([row.get(name, "") for row in rows]) for name in attributes}


def breakdown(
    embeddings: Float,
    faces: Verification,
    correct: Bool,
    threshold: float,
    values: Mapping[str, NDArray[Any]],
) -> list[Group]:
    """The errors of each group.

    Args:
        embeddings: `(N, E)`.
        correct: `(P,)`, whether each pair was decided right.
        threshold: the one for all.
        values: as `values_of` gives them.
    """
    pairs, scores = faces.pairs, pair_scores(embeddings, faces.pairs)
    groups = []
    for attribute, column in values.items():
        for value in sorted(set(column.tolist()) - {""}):
            inside = column == value
            both = inside[pairs.left] & inside[pairs.right]
            genuine = scores[both & pairs.same]
            impostors = impostor_scores(embeddings[inside], faces.faces.labels[inside])
            if min(len(genuine), len(impostors)) < LEAST_PAIRS:
                continue
            groups.append(
                Group(
                    attribute,
                    value,
                    int(inside.sum()),
                    len(genuine),
                    len(impostors),
                    float(correct[both].mean()),
                    float(np.mean(genuine >= threshold)),
                    float(np.mean(impostors >= threshold)),
                )
            )
    return groups


def _files(images: Images) -> Sequence[Path] | None:
    """The file of each image; `None` where they are none."""
    if isinstance(images, FileImages):
        return images.paths
    if isinstance(images, Selection) and (files := _files(images.images)) is not None:
        return [files[int(index)] for index in images.indices]
    return None

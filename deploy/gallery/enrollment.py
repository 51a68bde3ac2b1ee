"""From pictures of a person to the templates that faces are compared with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common import redaction
from slimcam.deploy.gallery.crops import encode_crop
from slimcam.deploy.gallery.match import Matcher
from slimcam.deploy.gallery.people import NOTE_LENGTH, Person, Snapshot, Template
from slimcam.deploy.inference.model import Recognizer
from slimcam.deploy.types import Frame
from slimcam.deploy.vision.align import align
from slimcam.deploy.vision.detector import Detector
from slimcam.deploy.vision.image_files import read_picture
from slimcam.deploy.vision.quality import QualityConfig, quality, quality_issues

Image = NDArray[np.uint8]

RIVAL = 0.6
"""A face of this share of the largest one's width makes it unclear whose picture it is."""

VIEWS = 5
"""Templates that are taken of a camera."""

VIEWS_SECONDS = 10.0
"""So long the camera looks; a view is taken of each `VIEWS`-th of it, so that they differ."""


def template(image: Image, points: NDArray[np.floating], recognizer: Recognizer, source: str, keep: bool) -> Template:
    """The template of a face in a picture.

    Args:
        image: `(h, w, 3)` uint8 RGB.
        points: `(5, 2)`, of the face.
        source: where the picture is from.
        keep: the crop too.
    """
    crop = align(image, points)
    return Template(recognizer.embed(crop[np.newaxis])[0], encode_crop(crop) if keep else None, source)


def templates(
    images: Iterable[tuple[str, Image]],
    detector: Detector,
    recognizer: Recognizer,
    quality: QualityConfig,
    keep_crops: bool = False,
) -> tuple[list[Template], list[str]]:
    """A template of the largest face of each picture.

    Args:
        images: name and `(h, w, 3)` uint8 RGB of each picture.
        keep_crops: Whether to keep the crops, from which templates are made again when the recognizer is replaced.

    Returns:
        The templates, and a note for each picture that was left out: without a face, with several large ones, or with
        a face that is not fit.

    Raises:
        ValueError: none is left.
    """
    taken, notes = [], []
    for name, image in images:
        points, note = lone_face(image, detector, quality)
        if points is None:
            notes.append(f"{name}: {note}")
        else:
            taken.append(template(image, points, recognizer, name, keep_crops))
    if not taken:
        raise ValueError("no picture to enroll is left" + "".join(f"; {note}" for note in notes))
    return taken, notes


def watch(
    frames: Iterable[Frame],
    source: str,
    detector: Detector,
    recognizer: Recognizer,
    quality_config: QualityConfig,
    alike: float,
    keep_crops: bool = False,
) -> tuple[list[Template], list[str]]:
    """Templates of the one person whom a camera or video shows, from the best frames of 10 seconds.

    Args:
        source: Source that the templates name.
        alike: Least cosine of views of one person.

    Returns:
        At most 5 templates, and notes on how many frames were left out and why.

    Raises:
        ValueError: no frame was fit, or not all of them show one person.
    """
    best: dict[int, tuple[float, Frame, NDArray[np.floating]]] = {}
    left_out: dict[str, int] = {}
    for frame in frames:
        if frame.seconds >= VIEWS_SECONDS:
            break
        points, note = lone_face(frame.image, detector, quality_config)
        if points is None:
            left_out[note] = left_out.get(note, 0) + 1
            continue
        part, score = int(VIEWS * frame.seconds / VIEWS_SECONDS), quality(frame.image, points)
        if part not in best or score > best[part][0]:
            best[part] = score, frame, points
    notes = [f"{source}: {count} frames: {note}" for note, count in left_out.items()]
    if not best:
        raise ValueError(f"{source}: no frame to enroll is left" + "".join(f"; {note}" for note in notes))
    taken = [
        template(frame.image, points, recognizer, f"{source}, second {frame.seconds:.1f}", keep_crops)
        for _, (_, frame, points) in sorted(best.items())
    ]
    embeddings = np.stack([one.embedding for one in taken])
    # Views of one person hang together, but the first and the last one may differ.
    likeness = embeddings @ embeddings.T
    reached = {0}
    for _ in taken:
        reached |= {int(j) for i in reached for j in np.flatnonzero(likeness[i] >= alike)}
    if len(reached) < len(taken):
        raise ValueError(
            f"{source}: the frames show more than one person, or one too differently; let one person alone "
            "look into the camera, or enroll from pictures"
        )
    return taken, notes


def lone_face(image: Image, detector: Detector, quality: QualityConfig) -> tuple[NDArray[np.floating] | None, str]:
    """The points of the face that a picture is about, `(5, 2)`; or `None` and why there is none."""
    faces = detector.detect(image)
    if not len(faces):
        return None, "no face in it"
    order = np.argsort(-faces.sizes, kind="stable")
    if len(order) > 1 and faces.sizes[order[1]] >= RIVAL * faces.sizes[order[0]]:
        return None, "several faces of about one size"
    points = faces.points[order[0]]
    found = quality_issues(image, points, quality)
    return (None, f"the face is {', '.join(found)}") if found else (points, "")


def alike_people(
    templates: Sequence[Template], snapshot: Snapshot, threshold: float, person: str | None
) -> list[tuple[Person, float]]:
    """Other people whom the templates would be taken for, and the best cosine with each.

    Args:
        threshold: The least cosine at which a face is somebody's.
        person: The id of whom the templates are of, if enrolled.
    """
    mine = next((i for i, one in enumerate(snapshot.people) if one.id == person), -1)
    others = snapshot.owners != mine
    matcher = Matcher(
        replace(snapshot, embeddings=snapshot.embeddings[others], owners=snapshot.owners[others]), threshold
    )
    found: dict[str, float] = {}
    for one in templates:
        identity = matcher.match(one.embedding)
        if identity.person is not None and identity.score > found.get(identity.person, -1.0):
            found[identity.person] = identity.score
    people = {one.id: one for one in snapshot.people}
    return [(people[id], score) for id, score in found.items()]


def pictures(paths: Sequence[Path], notes: list[str]) -> Iterator[tuple[str, Image]]:
    """The pictures of files and of folders' files; what cannot be read is noted and left out.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: there is no such picture or folder")
        files = sorted(file for file in path.iterdir() if not file.name.startswith(".")) if path.is_dir() else [path]
        for file in files:
            if not file.is_file():
                notes.append(f"{printable_note(file.name)}: not a file")
                continue
            try:
                yield printable_note(file.name), read_picture(file)
            except (ValueError, OSError) as error:
                notes.append(printable_note(str(error)))


def printable_note(text: str) -> str:
    """A text as one line without control characters: names of files may have any, and any bytes."""
    return redaction.printable(text).strip()[:NOTE_LENGTH] or "?"

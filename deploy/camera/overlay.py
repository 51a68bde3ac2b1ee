"""What the camera made of a frame, drawn into it: boxes, points, names."""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.types import Identity, Sighting, View
from slimcam.deploy.vision.align import check_frame, face_boxes

Image = NDArray[np.uint8]
Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]
"""x, y, width, height in pixels."""

KNOWN: Color = (86, 220, 130)
UNKNOWN: Color = (255, 176, 40)
UNDECIDED: Color = (160, 205, 255)
"""RGB of a face by what is known of it. Black text has a contrast of at least 11 on them (WCAG 2.2, 1.4.6 asks 7)."""

_BLACK: Color = (0, 0, 0)
_LONGEST = 80
"""Characters of a name that are looked at, so that no name costs much; what is drawn of them is what fits."""


class _Line(NamedTuple):
    text: str
    size: int
    width: int


def annotated(image: Image, view: View) -> Image:
    """A copy of a picture with the faces of a view: box, five points, who it is and, small, its flaws.

    Args:
        image: `(h, w, 3)` uint8 RGB: the frame of the view, or that frame at another size.
        view: View whose faces are drawn. Faces whose points are not finite are left out.

    Returns:
        `(h, w, 3)` uint8 RGB.

    Raises:
        ValueError: the picture is of another shape or type.
    """
    check_frame(image)
    canvas = np.array(image, order="C")
    height, width = canvas.shape[:2]
    unit = max(1.0, math.sqrt(height * width) / 480)
    scale = np.divide((width, height), view.frame.image.shape[1::-1])
    shown = [sighting for sighting in view.sightings if np.isfinite(sighting.points).all()]
    if not shown:
        return canvas
    side = max(width, height)
    points = np.stack([sighting.points for sighting in shown]).astype(np.float64)
    points = np.clip((points + 0.5) * scale - 0.5, -side, 2 * side)  # OpenCV's coordinates overflow
    boxes = np.rint(face_boxes(points)).astype(int)
    for sighting, box, five in zip(shown, boxes, points, strict=True):
        _draw_face(canvas, sighting, tuple(box.tolist()), five, unit)
    labels: list[Rectangle] = []
    for sighting, box in zip(shown, boxes, strict=True):
        lines = _label(sighting, unit, max(width // 3, int(box[2])), width)
        size = max(line.width for line in lines) + _pad(unit), sum(_line_height(line) for line in lines)
        labels.append(place(size, tuple(box.tolist()), labels, boxes, (width, height)))
        _draw_label(canvas, lines, labels[-1], _color(sighting.identity), unit)
    return canvas


def place(
    size: tuple[int, int],
    box: Rectangle,
    labels: list[Rectangle],
    boxes: NDArray[np.integer],
    frame: tuple[int, int],
) -> Rectangle:
    """Where the label of a face goes: above, below, right or left of its box, inside the frame, hiding least.

    Args:
        size: Width and height of the label.
        box: Box of the face.
        labels: Labels placed before; hiding one is worse than hiding a face.
        boxes: `(N, 4)`, of all faces.
        frame: Width and height of the frame. A label that is larger starts at its upper left corner.
    """
    (width, height), (x, y, box_width, box_height) = size, box
    corners = np.array(
        [(x, y - height), (x, y + box_height), (x + box_width, y), (x - width, y), (x, y), (x, y + box_height - height)]
    )
    corners = np.maximum(np.minimum(corners, np.subtract(frame, size)), 0)
    taken = np.concatenate([np.reshape(labels, (-1, 4)), boxes])
    low = np.maximum(corners[:, np.newaxis], taken[:, :2])
    high = np.minimum(corners[:, np.newaxis] + size, taken[:, :2] + taken[:, 2:])
    hidden = np.maximum(high - low, 0).prod(axis=2)
    cost = hidden.sum(axis=1) + 8 * hidden[:, : len(labels)].sum(axis=1)
    left, top = corners[int(cost.argmin())].tolist()
    return left, top, width, height


def label(sighting: Sighting) -> str:
    """The name of a face, `unknown`, or the number of its track while nothing is known or there is no name."""
    if sighting.identity is not None and not sighting.identity.known:
        return "unknown"
    name = sighting.identity.name if sighting.identity else None
    return printable(name or "") or f"#{sighting.track}"


def printable(name: str) -> str:
    """The first characters of a name as one line from left to right: what a renderer without bidi support shows right.

    White space becomes single spaces, invisible format characters vanish, what cannot be shown becomes `?`, and runs
    of right-to-left script are turned round; their letters are not joined.
    """
    text = " ".join(unicodedata.normalize("NFC", name[:_LONGEST]).split())
    text = "".join(
        "" if category == "Cf" else "?" if category[0] == "C" else character
        for character, category in ((character, unicodedata.category(character)) for character in text)
    )
    return _turned(text.strip())


def _turned(text: str) -> str:
    """With runs of right-to-left letters, and the spaces between them, in the order that they are seen in."""
    if text.isascii():
        return text
    kinds = "".join("R" if unicodedata.bidirectional(character) in ("R", "AL") else "-" for character in text)
    # A mark stays behind its letter, and a space between two such letters is one of the run.
    kinds = "".join(
        "m" if unicodedata.combining(character) else " " if character == " " else kind
        for character, kind in zip(text, kinds, strict=True)
    )
    for run in re.finditer(r"Rm*(?: *Rm*)*", kinds):
        letters = re.findall(r".m*", kinds[slice(*run.span())])
        pieces, start = [], run.start()
        for letter in letters:
            pieces.append(text[start : start + len(letter)])
            start += len(letter)
        text = text[: run.start()] + "".join(reversed(pieces)) + text[run.end() :]
    return text


def _draw_face(canvas: Image, sighting: Sighting, box: Rectangle, points: NDArray[np.floating], unit: float) -> None:
    color, line = _color(sighting.identity), max(1, round(1.5 * unit))
    x, y, width, height = box
    # Black about the color: one of the two stands out on any background.
    for tint, thickness in ((_BLACK, line + 2 * max(1, round(unit / 2))), (color, line)):
        cv2.rectangle(canvas, (x, y), (x + width, y + height), tint, thickness)
    radius = max(1, round(1.2 * unit))
    for point in np.rint(points).astype(int).tolist():
        cv2.circle(canvas, point, radius + max(1, round(unit / 2)), _BLACK, cv2.FILLED)
        cv2.circle(canvas, point, radius, color, cv2.FILLED)


def _label(sighting: Sighting, unit: float, width: int, frame: int) -> list[_Line]:
    """Its lines: who it is and, smaller, what is wrong. The first is as wide as `width`, all as the frame at most."""
    lines = [_line(label(sighting), round(15 * unit), min(width, frame - _pad(unit)))]
    if sighting.quality_issues:
        lines.append(_line(printable(", ".join(sighting.quality_issues)), round(11 * unit), frame - _pad(unit)))
    return lines


def _line(text: str, size: int, width: int) -> _Line:
    """A text, shortened to a width in pixels."""
    writer = _writer()
    length = writer.width(text, size)
    kept = text
    while length > width and kept:
        kept = kept[: min(len(kept) - 1, int(len(kept) * width / length) + 1)]
        text = kept.rstrip() + "..."
        length = writer.width(text, size)
    return _Line(text, size, length)


def _draw_label(canvas: Image, lines: list[_Line], place: Rectangle, color: Color, unit: float) -> None:
    x, y, width, height = place
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), color, cv2.FILLED)
    for line in lines:
        _writer().write(canvas, line.text, (x + _pad(unit) // 2, y + round(1.08 * line.size)), line.size)
        y += _line_height(line)


def _line_height(line: _Line) -> int:
    return round(1.42 * line.size)


def _pad(unit: float) -> int:
    return 2 * round(4 * unit)


def _color(identity: Identity | None) -> Color:
    if identity is None:
        return UNDECIDED
    return KNOWN if identity.known else UNKNOWN


class _Writer(NamedTuple):
    """Text with OpenCV: sizes are pixels, the width of a text too, and texts start on the left of their base line."""

    width: Callable[[str, int], int]
    write: Callable[[Image, str, tuple[int, int], int], Any]


@functools.cache
def _writer() -> _Writer:
    return _unicode_writer() if hasattr(cv2, "FontFace") else _ascii_writer()


def _unicode_writer() -> _Writer:
    """OpenCV 5 has fonts for Latin, Greek, Cyrillic, Hebrew, Arabic, Chinese, Japanese and Korean built in."""
    face, weight = cv2.FontFace("sans"), 500

    def width(text: str, size: int) -> int:
        x, _, extent, _ = cv2.getTextSize((0, 0), text, (0, 0), face, size, weight)
        return int(x + extent)

    def write(canvas: Image, text: str, place: tuple[int, int], size: int) -> None:
        cv2.putText(canvas, text, place, _BLACK, face, size, weight)

    return _Writer(width, write)


def _ascii_writer() -> _Writer:
    """OpenCV 4 draws ASCII only: letters lose their accents, others become `?`."""
    font, base = cv2.FONT_HERSHEY_SIMPLEX, 30

    def width(text: str, size: int) -> int:
        return int(cv2.getTextSize(_ascii(text), font, size / base, max(1, size // 14))[0][0])

    def write(canvas: Image, text: str, place: tuple[int, int], size: int) -> None:
        thickness = max(1, size // 14)
        cv2.putText(canvas, _ascii(text), place, font, size / base, _BLACK, thickness, cv2.LINE_AA)

    return _Writer(width, write)


def _ascii(text: str) -> str:
    letters = (character for character in unicodedata.normalize("NFKD", text) if not unicodedata.combining(character))
    return "".join(letters).encode("ascii", "replace").decode("ascii")

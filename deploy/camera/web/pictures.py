"""Views as JPEGs: the live one, and those that are kept still while somebody is enrolled."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.camera.outputs.lines import frame_record
from slimcam.deploy.camera.overlay import annotated
from slimcam.deploy.types import Sighting, View
from slimcam.deploy.vision.align import face_boxes

SNAPSHOTS = 4
SNAPSHOT_SECONDS = 300.0
"""So many snapshots are kept, so long: pictures of people are not to lie about, and frames are large."""

_STILL_WIDTH = 1280


@dataclass(frozen=True)
class Snapshot:
    view: View
    made: float


class Snapshots:
    """Views that were asked for lately, under names that cannot be guessed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Snapshot] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, view: View, now: float) -> str:
        self.expire(now)
        while len(self._kept) >= SNAPSHOTS:
            self._kept.popitem(last=False)
        name = secrets.token_urlsafe(12)
        self._kept[name] = Snapshot(view, now)
        return name

    def get(self, name: str, now: float) -> View | None:
        self.expire(now)
        snapshot = self._kept.get(name)
        return snapshot.view if snapshot else None

    def remove(self, name: str) -> None:
        self._kept.pop(name, None)

    def expire(self, now: float) -> None:
        """Lets go of the old ones; called at their end too, when nobody asks any more."""
        while self._kept and next(iter(self._kept.values())).made + SNAPSHOT_SECONDS <= now:
            self._kept.popitem(last=False)


def live_jpeg(view: View, width: int, quality: int) -> bytes:
    """The frame with what is known of its faces, shrunk to a width."""
    return _jpeg(annotated(_shrunk(view.frame.image, width), view), quality)


def still_jpeg(view: View) -> bytes:
    """The frame as it is."""
    return _jpeg(_shrunk(view.frame.image, _STILL_WIDTH), 90)


def still_record(name: str, view: View) -> dict[str, Any]:
    """A snapshot for the page: its faces have a `box`, `[x, y, width, height]` as fractions of the picture, or null."""
    height, width = view.frame.image.shape[:2]
    faces = [
        {**face, "box": _box(sighting, width, height)}
        for face, sighting in zip(frame_record(view)["faces"], view.sightings, strict=True)
    ]
    return {"snapshot": name, "width": width, "height": height, "faces": faces}


def _box(sighting: Sighting, width: int, height: int) -> list[float] | None:
    if not np.isfinite(sighting.points).all():
        return None
    x, y, w, h = face_boxes(sighting.points)[0].tolist()
    # A face may reach out of the picture; its button must not.
    left, top = min(max(x / width, 0.0), 1.0), min(max(y / height, 0.0), 1.0)
    right, bottom = min(max((x + w) / width, left), 1.0), min(max((y + h) / height, top), 1.0)
    return [round(value, 4) for value in (left, top, right - left, bottom - top)]


def _shrunk(image: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    rows, columns = image.shape[:2]
    if columns <= width:
        return image
    size = width, max(1, round(rows * width / columns))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    done, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise RuntimeError(f"OpenCV cannot encode a picture of {image.shape} as JPEG")
    return content.tobytes()

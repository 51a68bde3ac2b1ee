"""A video file of what the camera sees, annotated.

`.avi` is Motion JPEG: large, cheap to make. `.mkv` and `.mp4` are MPEG-4 part 2: small. While it is written the file is
called `NAME.partial.SUFFIX`. A camera that is killed leaves it so: an `.avi` or `.mkv` plays as far as it got, an
`.mp4` does not play, for its index is written last.
"""

from __future__ import annotations

import errno
import math
import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.camera.overlay import annotated
from slimcam.deploy.types import Notice, View
from slimcam.deploy.vision.letterbox import letterbox

CODECS = {".avi": "MJPG", ".mkv": "XVID", ".mp4": "mp4v"}

FASTEST = 60.0
"""Frames a second of a video, at the most, unless another rate is asked for: screens show no more."""

UNKNOWN_FPS = 10.0
"""Of the video of a source that does not tell its own."""

PAUSE = 2.0
"""Seconds: where a source stands still for longer, the video goes on at once."""

RESERVE = 8 << 20
"""Bytes that are left free on the disk: OpenCV does not tell that writing failed, and the index comes last."""


class Video:
    """Writes views to a video file, see the module.

    A file has one frame rate and a camera has none, so frames are repeated and left out such that each is seen at its
    time. All frames are fitted into the size of the first; a side of odd length loses a pixel.

    Args:
        path: File with a suffix of `CODECS`.
        fps: Frames a second of the file.

    Raises:
        FileExistsError: there is such a file; a recording is not overwritten.
        ValueError: the suffix or the frame rate cannot be.
        OSError: it cannot be written there.
    """

    def __init__(self, path: str, fps: float) -> None:
        self._path = Path(path)
        if self._path.suffix.lower() not in CODECS:
            raise ValueError(f"{path}: a video is {', '.join(CODECS)}; name it so")
        if not 0 < fps <= 240:
            raise ValueError(f"{path}: a video has from 0 to 240 frames a second; got {fps}")
        self._refuse_existing()
        self._partial = _create(self._path)
        self._pace = Pace(fps)
        self._writer: Any = None
        self._size = (0, 0)
        self._last: NDArray[np.uint8] | None = None

    def show(self, view: View) -> None:
        """See `Output`.

        Raises:
            OSError: the disk is full, or the file cannot be written.
        """
        copies = self._pace.copies(view.frame.seconds)
        if not copies:
            return
        free = shutil.disk_usage(self._partial.parent).free
        if free < RESERVE:
            raise OSError(errno.ENOSPC, f"the disk is full, {free >> 20} MiB are left", str(self._path))
        image = cv2.cvtColor(annotated(view.frame.image, view), cv2.COLOR_RGB2BGR)
        if self._writer is None:
            self._open(image.shape[0], image.shape[1])
        if image.shape[:2] != self._size:
            image = letterbox(image, *self._size)[0]
        for _ in range(copies - 1):
            self._writer.write(self._last if self._last is not None else image)
        self._writer.write(image)
        self._last = image

    def notice(self, notice: Notice) -> None:
        """See `Output`: there is nothing to show."""

    def close(self) -> None:
        """Finishes the file and gives it its name. One without a frame is removed.

        Raises:
            OSError: not all of it could be written, or its name was taken meanwhile: it is kept as the partial one.
        """
        if self._writer is None:
            self._partial.unlink(missing_ok=True)
            return
        self._writer.release()
        self._writer = None
        if not _whole(self._partial, self._pace.written):
            raise OSError(f"{self._partial}: not all of the video could be written; what there is was kept")
        self._refuse_existing()
        self._partial.replace(self._path)

    def _open(self, height: int, width: int) -> None:
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        self._size = (height, width)
        self._writer = cv2.VideoWriter(str(self._partial), codec, self._pace.fps, (width, height))
        if not self._writer.isOpened():
            self._writer = None
            raise OSError(f"{self._path}: OpenCV cannot write such a video of {width}x{height}; take another suffix")

    def _refuse_existing(self) -> None:
        if self._path.exists():
            raise FileExistsError(f"{self._path}: there is such a file; move it away or name another")


class Pace:
    """Which frames of a camera fill the evenly spaced ones of a file.

    Args:
        fps: Frames a second of the file.
    """

    def __init__(self, fps: float) -> None:
        self.fps = fps
        self.written = 0
        self._origin = self._last = math.inf

    def copies(self, seconds: float) -> int:
        """How often to write: 0 leaves a frame out, above 1 all but the last are of the frame written before.

        Args:
            seconds: Time of the frame. Where time jumps back or by more than `PAUSE`, the file goes on without a gap.
        """
        if not 0 <= seconds - self._last <= PAUSE:
            self._origin = seconds - self.written / self.fps
        self._last = seconds
        copies = max(0, math.floor((seconds - self._origin) * self.fps + 0.5) + 1 - self.written)
        self.written += copies
        return copies


def numbered(path: Path) -> Iterator[Path]:
    """The path itself, and then names beside it that are free: a video that broke off is not written on."""
    yield path
    for number in count(2):
        further = path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not further.exists():
            yield further


def video_rate(fps: float) -> float:
    """The frame rate of a video of a source: the source's own, as far as a video can have it and a viewer see it.

    Args:
        fps: Frames a second of the source, 0 where it is not known.
    """
    return min(fps, FASTEST) if fps > 0 else UNKNOWN_FPS


def _create(path: Path) -> Path:
    """A new empty file beside one; what a killed camera left is not overwritten."""
    for number in count(1):
        partial = path.with_name(f"{path.stem}.partial{number if number > 1 else ''}{path.suffix}")
        try:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        except OSError as error:
            raise type(error)(error.errno, f"a video cannot be written there, {error.strerror}", str(path)) from error
        return partial
    raise AssertionError("numbers do not end")


def _whole(path: Path, frames: int) -> bool:
    """Whether a video opens with about as many frames; containers that do not count them tell them from times."""
    video = cv2.VideoCapture(str(path))
    try:
        return bool(video.isOpened() and video.get(cv2.CAP_PROP_FRAME_COUNT) >= 0.99 * frames - 2)
    finally:
        video.release()

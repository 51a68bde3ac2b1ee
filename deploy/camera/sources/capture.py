"""OpenCV's video capture, quiet, with RGB frames of bearable size."""

from __future__ import annotations

import os
from collections.abc import Sequence

import cv2
import numpy as np

from slimcam.deploy.vision.image_files import Image, check_size

# OpenCV and FFmpeg would write lines of their own, which may hold an address with its password. FFmpeg's are set off
# when it is first used in a process, for whatever, so that this cannot wait.
os.environ["OPENCV_FFMPEG_LOGLEVEL"] = "-8"
os.environ.pop("OPENCV_FFMPEG_DEBUG", None)


FASTEST = 240.0
"""Frames a second: a header that tells of more mostly counts something else, as those of browsers' recordings count
milliseconds."""


class Capture:
    """An open camera, stream or file.

    Args:
        target: Target of `cv2.VideoCapture`.
        title: Name of it in errors.
        backend: One of OpenCV's `CAP_` numbers.
        options: Options of `cv2.VideoCapture`, property and value in turn.

    Raises:
        OSError: it cannot be opened.
        ValueError: its frames are too large.
    """

    def __init__(self, target: str | int, title: str, backend: int, options: Sequence[int] = ()) -> None:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self.title = title
        self._capture = cv2.VideoCapture(target, backend, list(options))
        if not self._capture.isOpened():
            raise OSError(f"{title}: OpenCV cannot open it")
        try:
            width, height = self._get(cv2.CAP_PROP_FRAME_WIDTH), self._get(cv2.CAP_PROP_FRAME_HEIGHT)
            if width and height:  # some streams tell with their first frame only
                check_size(width, height, title)
        except ValueError:
            self.close()
            raise

    @property
    def fps(self) -> float:
        """Frames a second, 0 where it does not tell or what it tells is senseless."""
        rate = self._get(cv2.CAP_PROP_FPS)
        return rate if 0 < rate <= FASTEST else 0.0

    @property
    def frames(self) -> float:
        """How many there are, as the header of a file has it; 0 or less where it does not tell."""
        return self._get(cv2.CAP_PROP_FRAME_COUNT)

    @property
    def seconds(self) -> float:
        """How long a file is, as its header has it; 0 where it does not tell."""
        rate = self._get(cv2.CAP_PROP_FPS)
        return max(0.0, self.frames / rate) if rate > 0 else 0.0

    @property
    def codec(self) -> str:
        """The four letters that its coding goes by, such as `h264` or `AV01`; empty where they are not known."""
        letters = int(self._get(cv2.CAP_PROP_FOURCC)).to_bytes(8, "little", signed=True)[:4]
        return letters.decode("ascii").strip() if letters.isalnum() and letters.isascii() else ""

    @property
    def position(self) -> float:
        """Of the frame that was read last in a file, seconds."""
        return self._get(cv2.CAP_PROP_POS_MSEC) / 1000

    def set(self, option: int, value: float) -> None:
        """Asks a camera for something, which it may not do."""
        self._capture.set(option, value)

    def read(self) -> Image | None:
        """The next frame, `(h, w, 3)` uint8 RGB; `None` where there is no more.

        Raises:
            ValueError: it is too large.
        """
        try:
            there, image = self._capture.read()
        except cv2.error:
            return None
        if not there or image is None or not image.size:
            return None
        check_size(image.shape[1], image.shape[0], self.title)
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image))

    def skip(self) -> bool:
        """Passes the next frame over; whether there was one."""
        return bool(self._capture.grab())

    def close(self) -> None:
        self._capture.release()

    def _get(self, option: int) -> float:
        value = float(self._capture.get(option))
        return value if np.isfinite(value) else 0.0

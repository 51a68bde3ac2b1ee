"""Video files: every frame, in order, with its time in the clip."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2

from slimcam.deploy.camera.sources.capture import Capture
from slimcam.deploy.camera.sources.source import Source, SourceConfig, SourceKind, State, rotated
from slimcam.deploy.types import Frame

_MEASURED = 60
"""Frames whose times tell the rate where the header does not."""

_ALWAYS_DECODED = ("h264", "avc1", "hevc", "hvc1", "hev1", "fmp4", "mp4v", "xvid", "mjpg", "vp80", "vp90")
"""Codings that every FFmpeg decodes; of others, a build may lack the decoder, as OpenCV's wheels do for AV1."""

_USUAL_RATE = 25.0
"""Frames a second of files that do not tell."""


class VideoFile(Source):
    """The frames of a video file.

    `Frame.seconds` never goes back: where a file lies about its times, or begins again, a frame follows the one before
    by the usual distance.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no video, or holds no frame, or frames of a senseless size.
    """

    kind = SourceKind.clip
    live = False

    def __init__(self, path: Path, config: SourceConfig) -> None:
        super().__init__(str(path), config)
        self._path = path
        self._closed = self._ended = False
        capture = self._open()
        try:
            if capture.read() is None:
                raise ValueError(f"{path}: there is no frame in this video that can be decoded; {_why(capture.codec)}")
            self._fps = capture.fps or _measured(capture) or _USUAL_RATE
        finally:
            capture.close()

    @property
    def fps(self) -> float:
        return self._fps

    @property
    def state(self) -> State:
        return "ended" if self._closed or self._ended else "running"

    def __iter__(self) -> Iterator[Frame]:
        self._ended = False
        number, seconds = 0, 0.0
        while not self._closed:
            before = number
            for frame in self._once(number, seconds + 1 / self._fps if number else 0.0):
                yield frame
                number, seconds = frame.number + 1, frame.seconds
            if not self.config.loop or number == before:
                break
        self._ended = True

    def close(self) -> None:
        self._closed = True

    def _once(self, number: int, begin: float) -> Iterator[Frame]:
        """The file from its start to its end, as frames from a number and a time on."""
        capture = self._open()
        try:
            first, start, seconds = number, 0.0, begin
            while not self._closed:
                image = capture.read()
                if image is None:
                    self._check_end(seconds - begin + 1 / self._fps, capture.seconds)
                    return
                if number == first:
                    start = capture.position
                else:
                    told = begin + capture.position - start
                    seconds = told if told > seconds else seconds + 1 / self._fps
                yield Frame(rotated(image, self.config.rotate), number, seconds, time.monotonic())
                number += 1
        finally:
            capture.close()

    def _open(self) -> Capture:
        # Says what is wrong with a file that may not be read, which OpenCV does not.
        self._path.open("rb").close()
        # An absolute path is never taken for an address. Further threads would each hold back a frame.
        options = (cv2.CAP_PROP_N_THREADS, 1)
        try:
            return Capture(str(self._path.resolve()), str(self._path), cv2.CAP_FFMPEG, options)
        except OSError as error:
            empty = self._path.stat().st_size == 0
            what = "an empty file" if empty else "no video or picture that OpenCV can read, or it is cut short"
            raise ValueError(f"{self._path}: {what}") from error

    def _check_end(self, seconds: float, told: float) -> None:
        # Times, and not numbers of frames: those that headers tell are estimates wherever frames are unevenly spaced.
        if seconds < told - max(1.0, 0.02 * told, 2 / self._fps):
            self.note(f"{self.name}: it ends after {seconds:.1f} of {told:.1f} s that its header tells")


def _measured(capture: Capture) -> float:
    """Frames a second by the times of the first ones, the frame that was read last included; 0 where they tell none."""
    times = [capture.position]
    while len(times) < _MEASURED and capture.skip():
        times.append(capture.position)
    passed = times[-1] - times[0]
    return (len(times) - 1) / passed if passed > 0 else 0.0


def _why(codec: str) -> str:
    if codec.lower() in _ALWAYS_DECODED or not codec:
        return "it is damaged or empty"
    return (
        f"this OpenCV has no decoder for {codec}, or the file is damaged; convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
    )

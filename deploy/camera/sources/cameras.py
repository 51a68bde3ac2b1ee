"""Cameras that are opened: webcams, network streams and those of a Raspberry Pi."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

import cv2
import numpy as np

from slimcam.deploy.camera.sources.capture import Capture
from slimcam.deploy.camera.sources.http import Address, RemoteFile, Snapshots
from slimcam.deploy.camera.sources.live import Camera, Stream
from slimcam.deploy.camera.sources.source import SourceConfig
from slimcam.deploy.common.redaction import redacted
from slimcam.deploy.vision.image_files import Image, check_size

_FFMPEG_OPTIONS = "rtsp_transport;tcp|analyzeduration;500000|fpsprobesize;0|allowed_media_types;video"
"""RTSP over TCP, which loses no packets. Half a second of a stream, not five, is looked at before its first frame."""


def webcam(index: int, config: SourceConfig) -> Camera:
    """A webcam by its number, 0 for the first.

    Raises:
        OSError: there is none, or another program has it.
    """
    name = f"webcam {index}"
    connect = functools.partial(_open_webcam, index, name, config)
    return Camera(name, connect, config, connect())


def network(url: str, config: SourceConfig) -> Camera:
    """A stream by its address, a picture that is asked for again and again, or a file.

    That it cannot be reached is no error: it is tried until it can.
    """
    name = redacted(url)
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _FFMPEG_OPTIONS)  # who has set it knows better
    return Camera(name, functools.partial(_open_network, url, name, config), config)


def raspberry(config: SourceConfig) -> Camera:
    """The camera of a Raspberry Pi, through picamera2.

    Raises:
        ImportError: picamera2 is not installed.
        OSError: there is no camera.
    """
    connect = functools.partial(_RaspberryCamera, config)
    return Camera("picamera", connect, config, connect())


def _open_webcam(index: int, name: str, config: SourceConfig) -> Capture:
    try:
        capture = Capture(index, name, cv2.CAP_ANY)
    except OSError as error:
        raise OSError(
            f"{name}: there is none, or it may not be used or is in use; give source=FILE or a URL"
        ) from error
    for option, value in (
        (cv2.CAP_PROP_FRAME_WIDTH, config.width),
        (cv2.CAP_PROP_FRAME_HEIGHT, config.height),
        (cv2.CAP_PROP_FPS, config.fps),
    ):
        if value:
            capture.set(option, value)
    return capture


def _open_network(url: str, name: str, config: SourceConfig) -> Stream:
    # FFmpeg waits twice for a stream that has gone silent: for its next packet, and for the answer to its goodbye.
    # A decoder with several threads holds back a frame for each.
    options = (
        *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, int(1000 * config.timeout)),
        *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, int(500 * config.timeout)),
        *(cv2.CAP_PROP_N_THREADS, 1),
    )
    kind = "stream"
    if url.lower().startswith("http"):
        address = Address(url, name, config.timeout)
        kind = address.ask()
        if kind == "picture":
            return Snapshots(address, config.fps)
    try:
        capture = Capture(url, name, cv2.CAP_FFMPEG, options)
    except OSError as error:
        raise OSError(f"{name}: not reached, or no video that OpenCV can read") from error
    return RemoteFile(capture) if kind == "file" else capture


class _RaspberryCamera:
    """See https://github.com/raspberrypi/picamera2."""

    def __init__(self, config: SourceConfig) -> None:
        try:
            library: Any = importlib.import_module("picamera2")
        except ImportError as error:
            raise ImportError(
                "picamera: picamera2 is not there; sudo apt install python3-picamera2, and use an environment made "
                "with python3 -m venv --system-site-packages"
            ) from error
        self.fps = config.fps
        main: dict[str, Any] = {"format": "BGR888"}  # its name for red, green, blue in the order of the bytes
        if config.width:
            check_size(config.width, config.height, "picamera")
            main["size"] = (config.width, config.height)
        try:
            self._camera = library.Picamera2()
        except (RuntimeError, IndexError) as error:
            raise OSError("picamera: there is no camera, or it is in use; see rpicam-hello --list-cameras") from error
        try:
            controls = {"FrameRate": config.fps} if config.fps else {}
            self._camera.configure(self._camera.create_video_configuration(main=main, controls=controls))
            self._camera.start()
        except RuntimeError as error:
            self.close()
            raise OSError(f"picamera: {error}") from error

    def read(self) -> Image | None:
        try:
            image: Image = np.ascontiguousarray(self._camera.capture_array("main"))
        except RuntimeError:
            return None
        return image

    def close(self) -> None:
        self._camera.close()

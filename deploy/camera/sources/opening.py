"""Opens what `source=` names."""

from __future__ import annotations

import re
from pathlib import Path

from slimcam.deploy.camera.sources.cameras import network, raspberry, webcam
from slimcam.deploy.camera.sources.live import Paced
from slimcam.deploy.camera.sources.pictures import Pictures
from slimcam.deploy.camera.sources.source import Source, SourceConfig, SourceKind
from slimcam.deploy.camera.sources.video import VideoFile
from slimcam.deploy.common.redaction import redacted
from slimcam.deploy.vision.image_files import is_picture, read_picture

SCHEMES = ("rtsp", "rtsps", "http", "https")


def open_source(source: str | int, config: SourceConfig | None = None) -> Source:
    """Opens a source of frames.

    Args:
        source: the number of a webcam, or its `/dev/video` file; a video file; a picture; a folder of pictures; the
            address of a stream, `rtsp://`, `rtsps://`, `http://` or `https://`; or `picamera`.

    Raises:
        ValueError: it is none of these, or what it names holds no frames.
        OSError: it cannot be opened. A network stream is tried until it can.
        ImportError: the library of the Raspberry Pi camera is not installed.
    """
    config = config if config is not None else SourceConfig()
    text = str(source).strip()
    if number := re.fullmatch(r"(?:/dev/video)?([0-9]{1,3})", text):
        return webcam(int(number[1]), config)
    if text == "picamera":
        return raspberry(config)
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text):
        if scheme[1].lower() not in SCHEMES:
            raise ValueError(f"{redacted(text)}: streams are {', '.join(f'{known}://' for known in SCHEMES)}")
        return network(text, config)
    file = _open_files(text, config)
    return Paced(file) if config.realtime else file


def kind_of(source: str, config: SourceConfig) -> SourceKind:
    """The kind of a file or folder, without opening it as a source."""
    path = Path(source).expanduser()
    pictures = path.is_dir() or is_picture(path)
    return SourceKind.pictures if pictures and not config.sequence else SourceKind.clip


def _open_files(text: str, config: SourceConfig) -> Source:
    path = Path(text).expanduser()
    try:
        there = bool(text) and path.exists()
    except OSError:  # a name that no file can have
        there = False
    if not there:
        raise FileNotFoundError(
            f"{redacted(text) or 'no source'}: there is no such file or folder; give one, the number of a webcam, "
            "the address of a stream, or picamera"
        )
    if path.is_dir():
        return Pictures(text, sorted(entry for entry in path.iterdir() if _ordinary(entry)), config)
    if not path.is_file():
        raise ValueError(f"{path}: not a file or folder; give a video, a picture or a folder of pictures")
    if not is_picture(path):
        return VideoFile(path, config)
    read_picture(path)  # so that what is wrong with it is known now
    return Pictures(text, [path], config)


def _ordinary(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".")

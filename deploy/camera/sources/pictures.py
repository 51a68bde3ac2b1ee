"""Picture files as frames: one, or all of a folder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from slimcam.deploy.camera.sources.source import Source, SourceConfig, SourceKind, State, rotated
from slimcam.deploy.types import Frame
from slimcam.deploy.vision.image_files import read_picture


class Pictures(Source):
    """Picture files as frames, in the order given; those that cannot be read are skipped and noted.

    Raises:
        ValueError: there is none.
    """

    live = False

    def __init__(self, name: str, paths: list[Path], config: SourceConfig) -> None:
        super().__init__(name, config)
        self.kind = SourceKind.clip if config.sequence else SourceKind.pictures
        if not paths:
            raise ValueError(f"{name}: there is no file in this folder; give one with pictures")
        self._paths = paths
        self._closed = self._ended = False

    @property
    def fps(self) -> float:
        return self.config.fps or 1.0

    @property
    def state(self) -> State:
        return "ended" if self._closed or self._ended else "running"

    def __iter__(self) -> Iterator[Frame]:
        self._ended = False
        number = 0
        while not self._closed:
            before = number
            for path in self._paths:
                if self._closed:
                    break
                try:
                    image = rotated(read_picture(path), self.config.rotate)
                except (ValueError, OSError) as error:
                    self.note(f"skipped: {error}")
                    continue
                yield Frame(image, number, number / self.fps, time.monotonic())
                number += 1
            if number == before and not self._closed:
                raise ValueError(f"{self.name}: there is no picture that can be read; {self.notes[0]}")
            if not self.config.loop:
                break
        self._ended = True

    def close(self) -> None:
        self._closed = True

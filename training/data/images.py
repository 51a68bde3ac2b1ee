"""Images as every task has them: what a set of them is, how files are decoded, and pixels as networks take them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.vision.image_files import REDUCTIONS, decode_picture, picture_size

Image = NDArray[np.uint8]

IMAGE_SIZE = 112


class Images(Protocol):
    """A sequence of images, in memory (`(N, 112, 112, 3)` arrays serve as they are) or read when asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Image: ...


@dataclass(frozen=True)
class Selection:
    """Some images of a sequence, in the order of `indices`."""

    images: Images
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int, /) -> Image:
        return self.images[int(self.indices[index])]


class Joined:
    """Several sequences of images, one after the other."""

    def __init__(self, parts: Sequence[Images]) -> None:
        self.parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int, /) -> Image:
        part, place = self.locate(index)
        return part[place]

    def locate(self, index: int) -> tuple[Images, int]:
        """The sequence that an image belongs to, and its place there."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.parts[number], index - (int(self._ends[number - 1]) if number else 0)


def read_bytes(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file, none if it cannot be read."""
    try:
        return np.fromfile(path, dtype=np.uint8)
    except (OSError, ValueError):  # ValueError: a name that no file can have
        return np.empty(0, dtype=np.uint8)


def existing(path: Path) -> Path:
    """The path of a file that must be there.

    Raises:
        FileNotFoundError: it is not.
    """
    if not path.is_file():
        raise FileNotFoundError(f"data: no file {path}")
    return path


def sampled_blocks(path: Path, count: int = 1000, size: int = 4096) -> Iterator[bytes]:
    """Blocks of bytes spread evenly over a file: enough to tell two large files of one layout apart."""
    length = path.stat().st_size
    with path.open("rb") as file:
        for place in np.linspace(0, max(0, length - size), count).astype(int).tolist():
            file.seek(place)
            yield file.read(size)


def decode(encoded: NDArray[np.uint8], reduction: int = 1) -> Image | None:
    """Decodes the bytes of an image file as `(H, W, 3)` uint8 RGB; `None` where they are not readable, or too large.

    Args:
        reduction: What the sides are divided by; see `slimcam.deploy.vision.image_files.decode_picture`.
    """
    content = encoded.tobytes()
    try:
        return decode_picture(content, "image", reduction)
    except ValueError:
        if not content or picture_size(content) is not None:
            return None
    # A format that no camera writes, such as TIFF or PGM. imdecode, not imread: it takes any file name, and an
    # unreadable file costs no line of OpenCV's on the terminal.
    try:
        image: Image | None = cv2.imdecode(encoded, REDUCTIONS[reduction])
    except cv2.error:
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)


def read_picture(path: Path) -> Image:
    """A picture file, `(H, W, 3)` uint8 RGB.

    Raises:
        ValueError: it cannot be read as a picture.
    """
    image = decode(read_bytes(path))
    if image is None:
        raise ValueError(f"{path}: cannot be read as a picture")
    return image


Float = NDArray[np.float32]

T = TypeVar("T")

AHEAD = 4


def ahead(make: Callable[[int], T], steps: Iterable[int], workers: int) -> Generator[T, None, None]:
    """What `make` makes of each step in turn, prepared ahead by threads; 0 takes one for each processor."""
    workers = workers or os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="batches") as pool:
        left = iter(steps)
        pending: deque[Future[T]] = deque()
        try:
            while True:
                while len(pending) < AHEAD + workers and (step := next(left, None)) is not None:
                    pending.append(pool.submit(make, step))
                if not pending:
                    return
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()

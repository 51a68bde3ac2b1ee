"""What is known of image files from an earlier start: which are readable, and the digests of their contents.

A start looks at names, sizes and times alone, as long as these are what they were; only files that are new or have
changed are read. The index of a folder is kept in the user's cache, where folders are large enough for it to pay.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import cache_folder, save_arrays
from slimcam.training.data.images import ahead, decode, read_bytes
from slimcam.training.fit.progress import Progress

logger = logging.getLogger(__name__)

LEAST_FILES = 5_000
"""Of fewer files no index is kept: they are read in seconds."""

FORMAT = "slimcam file index 1"

# Files that a thread reads before it asks for more.
_TOGETHER = 64

# A file that was written while it was being read may change once more without its time telling.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Contents:
    """What is in some files.

    Attributes:
        readable: `(N,)`, whether each is an image that can be decoded.
        digests: `(N, 32)` uint8, SHA-256 of each.
    """

    readable: NDArray[np.bool_]
    digests: NDArray[np.uint8]


def contents_of(folder: Path, files: Sequence[Path]) -> Contents:
    """Reads files, or finds in the folder's index what is in them.

    Args:
        folder: folder that all of them are below.
    """
    if len(files) < LEAST_FILES:
        return _read(files)
    index = cache_folder() / "files" / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]}.npz"
    start = time.time_ns()
    stamps = np.array([_stamp(path) for path in files], np.int64).reshape(-1, 2)
    names = [os.fsencode(path.relative_to(folder)) for path in files]
    found = Contents(np.zeros(len(files), bool), np.zeros((len(files), 32), np.uint8))
    earlier = _open(index)
    rows = earlier.rows(names, stamps)
    old, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
    found.readable[old], found.digests[old] = earlier.contents.readable[rows[old]], earlier.contents.digests[rows[old]]
    if len(new):
        logger.info(f"data: {len(new):,} files of {folder} are new or changed; they are read once")
        read = _read([files[place] for place in new.tolist()], str(folder))
        found.readable[new], found.digests[new] = read.readable, read.digests
        settled = np.where(stamps[:, 1:] < start - _SETTLED_NS, stamps, -1)
        _save(index, earlier.without(names), _Index(names, settled, found))
    return found


@dataclass(frozen=True)
class _Index:
    """Names of files below the folder, their size and time of the last change, `(N, 2)`, and what is in them."""

    names: list[bytes]
    stamps: NDArray[np.int64]
    contents: Contents

    def rows(self, names: list[bytes], stamps: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row of each file, -1 where the file is not in the index as it is now."""
        if names == self.names:
            places = np.arange(len(names))
        else:
            place = {name: row for row, name in enumerate(self.names)}
            places = np.array([place.get(name, -1) for name in names], np.int64)
        there = np.flatnonzero(places >= 0)
        same = (self.stamps[places[there]] == stamps[there]).all(axis=1)
        rows = np.full(len(names), -1, np.int64)
        rows[there[same]] = places[there[same]]
        return rows

    def without(self, names: list[bytes]) -> _Index:
        """The rows of other files: one start may look at a part of the folder."""
        asked = set(names)
        kept = np.array([row for row, name in enumerate(self.names) if name not in asked], np.int64)
        contents = Contents(self.contents.readable[kept], self.contents.digests[kept])
        return _Index([self.names[row] for row in kept.tolist()], self.stamps[kept], contents)


_NOTHING = _Index([], np.zeros((0, 2), np.int64), Contents(np.zeros(0, bool), np.zeros((0, 32), np.uint8)))


def _open(path: Path) -> _Index:
    if not path.is_file():
        return _NOTHING
    try:
        with np.load(path) as kept:
            if str(kept["format"]) != FORMAT:
                return _NOTHING
            names = kept["names"].tobytes().split(b"\0")
            return _Index(names, kept["stamps"], Contents(kept["readable"], kept["digests"]))
    # What numpy and zipfile raise on files that are something else, cut short or damaged: it is made again.
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, OSError):
        return _NOTHING


def _save(path: Path, *parts: _Index) -> None:
    try:
        save_arrays(
            path,
            format=FORMAT,
            names=np.frombuffer(b"\0".join(name for part in parts for name in part.names), np.uint8),
            stamps=np.concatenate([part.stamps for part in parts]),
            readable=np.concatenate([part.contents.readable for part in parts]),
            digests=np.concatenate([part.contents.digests for part in parts]),
        )
    except OSError as error:
        logger.warning(f"data: {path} cannot be written ({error}); the next start reads all files again")


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of the last change; -1 of a file that is not there."""
    try:
        status = os.stat(path)  # noqa: PTH116 - half a million times, a method of Path would cost a second more
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _read(files: Sequence[Path], title: str = "") -> Contents:
    readable, digests = np.zeros(len(files), bool), np.zeros((len(files), 32), np.uint8)
    progress = Progress(len(files), f"reading {title}", unit="files")

    def read(start: int) -> int:
        places = range(start, min(start + _TOGETHER, len(files)))
        for place in places:
            content = read_bytes(files[place])
            readable[place] = decode(content) is not None
            digests[place] = np.frombuffer(hashlib.sha256(content.tobytes()).digest(), np.uint8)
        return len(places)

    for count in ahead(read, range(0, len(files), _TOGETHER), workers=0):
        progress.advance(count)
    progress.close()
    return Contents(readable, digests)

"""What is made of picture files at some cost, kept on disk picture by picture."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import read_bytes
from slimcam.training.fit.progress import Progress


def kept_for_pictures(
    files: Sequence[Path], path: Path, make: Callable[[NDArray[np.uint8]], bytes], title: str
) -> Iterator[bytes]:
    """What `make` makes of the bytes of each file.

    It is kept under a digest of these bytes: a picture that was worked on before is not worked on again, wherever its
    file lies now, and work that was broken off goes on where it was.

    Args:
        path: Database file that the results are kept in; another for each way of making them.
        title: What is being done, for the progress.

    Raises:
        OSError: the database cannot be read or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    progress = Progress(len(files), title, unit="photographs")
    try:
        with closing(sqlite3.connect(path, timeout=60)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS pictures (digest BLOB PRIMARY KEY, content BLOB)")
            for file in files:
                pixels = read_bytes(file)
                digest = hashlib.sha256(pixels.tobytes()).digest()
                row = database.execute("SELECT content FROM pictures WHERE digest = ?", (digest,)).fetchone()
                if row is None:
                    row = (make(pixels),)
                    with database:
                        database.execute("INSERT OR REPLACE INTO pictures VALUES (?, ?)", (digest, *row))
                progress.advance(1)
                yield row[0]
    except sqlite3.Error as error:
        raise OSError(f"{path}: {error}; delete this file, what is in it is made again") from error
    progress.close()

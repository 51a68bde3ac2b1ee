"""Files that are there whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Gives a temporary path in the same folder, with the same suffix; it replaces `path` when the block succeeds.

    Nothing is left behind when the block fails, for example for want of space.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic(path) as partial:
        partial.write_text(text)


def save_arrays(path: Path, **arrays: Any) -> None:
    """Writes a `.npz` file atomically."""
    with atomic(path) as partial:
        np.savez(partial, **arrays)


@contextmanager
def hdf5(path: Path) -> Iterator[Path]:
    """`atomic` for files that h5py writes: it reports a full disk as a RuntimeError, this as the OSError that it is."""
    with atomic(path) as partial:
        try:
            yield partial
        except RuntimeError as error:
            raise OSError(f"{path} could not be written: {error}") from error


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""Files that are there whole or not at all, and their digests."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic(path: Path, *, durable: bool = False, mode: int | None = None) -> Iterator[Path]:
    """Gives a temporary path in the same folder, with the same suffix; it replaces `path` when the block succeeds.

    Nothing is left behind when the block fails, for example for want of space. Threads and processes that write the
    same file at once do not disturb each other: the last one wins.

    Args:
        path: File to write; its folder is made.
        durable: write content and name to the disk before returning, so that a power failure leaves the old file or
            the new one.
        mode: permissions, for example `0o600` for what nobody else may read at any moment; else the system's default.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        if mode is not None:
            os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
        yield partial
        if durable:
            sync(partial)
        partial.replace(path)
        if durable:
            sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """`atomic` for folders: gives an empty folder to fill, which replaces `path` when the block succeeds.

    A folder cannot be renamed onto a full one, so that for a moment there is none; there is never a part of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = _beside(path), _beside(path)
    partial.mkdir()
    try:
        yield partial
        if path.exists():
            path.replace(old)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic(path) as partial:
        partial.write_text(text)


def save_arrays(path: Path, **arrays: Any) -> None:
    """Writes a `.npz` file atomically."""
    # Here, because a board writes files before it has NumPy.
    import numpy as np

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


def cache_folder() -> Path:
    """Where slimcam keeps what can be made or fetched again: `$SLIMCAM_CACHE`, or `slimcam` in the user's cache."""
    chosen = os.environ.get("SLIMCAM_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(chosen) if chosen else Path(base) / "slimcam"


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _beside(path: Path) -> Path:
    """A name in the same folder that nobody else uses."""
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")

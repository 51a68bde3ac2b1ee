"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

# What a stage that trains calls the Keras 3 model that it writes, and the folder of its events for TensorBoard.
MODEL, EVENTS = "model.keras", "tensorboard"


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


def save_keras(model: Any, path: Path) -> None:
    """Writes a Keras 3 `.keras` file atomically.

    Raises:
        OSError: no space is left, for example.
    """
    with hdf5(path) as partial:
        model.save(partial)


def load_keras(path: Path) -> Any:
    """Reads a Keras 3 model that an earlier stage wrote."""
    import keras

    return keras.saving.load_model(path, compile=False)


@contextmanager
def hdf5(path: Path) -> Iterator[Path]:
    """`atomic` for files that h5py writes: it reports a full disk as a RuntimeError, this as the OSError that it is."""
    with atomic(path) as partial:
        try:
            yield partial
        except RuntimeError as error:
            raise OSError(f"{path} could not be written: {error}") from error

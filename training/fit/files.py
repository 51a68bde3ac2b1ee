"""The Keras models that stages hand on, as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slimcam.deploy.common.files import hdf5

# What a stage that trains calls the Keras 3 model that it writes, and the folder of its events for TensorBoard.
MODEL, EVENTS = "model.keras", "tensorboard"


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

"""Model files of any origin, read for compression. No framework is imported before one is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

from slimcam.compression.errors import CompressionError, UntraceableModelError
from slimcam.deploy.common.messages import first_line

SUFFIXES = (".keras", ".h5", ".hdf5")
"""What files of models are called; a folder is a SavedModel."""


def load_model(path: Path | str, size: tuple[int, int] | None = None) -> Any:
    """Reads a `.keras` or `.h5` file, or the folder of a SavedModel.

        model = compression.load_model("my.keras")

    Args:
        path: File or folder.
        size: Height and width of the images of a model that takes any; `None` leaves the model as it is.

    Returns:
        A functional or sequential Keras 3 model, or a `slimcam.compression.export.graph.Graph`: of a SavedModel, or of
        a file of Keras 2 that Keras 3 does not read.

    Raises:
        FileNotFoundError: There is no such file or folder.
        CompressionError: It holds no model that can be read, one that is subclassed, or not of that size.
    """
    path = Path(path)
    require_model(path)
    if path.is_dir():
        # Late: it loads TensorFlow, whatever Keras' backend is.
        from slimcam.compression.export.graph import of_saved_model

        model = of_saved_model(path)
    else:
        model = _of_file(path)
    return model if size is None else _sized(model, size, path)


def require_model(path: Path) -> None:
    """Looks at a path without reading what is there.

    Raises:
        FileNotFoundError: There is no such file or folder.
        CompressionError: It is not what models are saved as.
    """
    if path.is_dir():
        if not (path / "saved_model.pb").is_file():
            raise CompressionError(
                f"{path} is a folder without saved_model.pb, so no SavedModel; give the one that has it"
            )
        return
    if not path.is_file():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if path.suffix.lower() not in SUFFIXES:
        raise CompressionError(
            f"{path} is neither a {SUFFIXES[0]} nor a {SUFFIXES[1]} file, nor the folder of a SavedModel; save the "
            "model by model.save('NAME.keras')"
        )


def _of_file(path: Path) -> Any:
    import keras

    if path.suffix.lower() == SUFFIXES[0] and not is_zipfile(path):
        raise CompressionError(f"{path} is damaged or no .keras file; save the model again by model.save('NAME.keras')")
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # Keras raises what the constructors of layers do
        model = _of_keras_2(path, error)
    if isinstance(model, keras.Sequential) and not model.built:
        raise CompressionError(
            f"{path} holds a sequential model of no input size; build it before it is saved: "
            "model.build((None, height, width, 3))"
        )
    if isinstance(model, keras.Model) and not hasattr(getattr(model, "_functional", None) or model, "_nodes_by_depth"):
        raise UntraceableModelError(f"{path} holds a subclassed model; {_EXPORT}")
    if not isinstance(model, keras.Model) and isinstance(model, keras.Layer):
        raise CompressionError(f"{path} holds a layer, {type(model).__name__}, and not a model")
    return model


_EXPORT = "export it by model.export('FOLDER') and give that folder, which can be quantized, not pruned"


def _of_keras_2(path: Path, error: Exception) -> Any:
    """What Keras 3 did not read; its error is told where Keras 2 does not read it either."""
    from slimcam.compression.export.graph import of_keras_2

    reason = first_line(error).partition(". ")[0]
    try:
        return of_keras_2(path)
    except CompressionError:
        if isinstance(error, TypeError) and "Could not locate class" in str(error):
            raise UntraceableModelError(
                f"{path} holds a class that is not of Keras ({reason}); import the module that registers it and "
                f"compress it from Python, or {_EXPORT}"
            ) from error
        raise CompressionError(f"{path} cannot be read as a Keras model: {reason}") from error


def _sized(model: Any, size: tuple[int, int], path: Path) -> Any:
    import keras

    shape = tuple(model.inputs[0].shape)
    if len(model.inputs) != 1 or len(shape) != 4:
        raise CompressionError(
            f"{path} takes {len(model.inputs)} inputs of {shape}; a size can be given for one image alone"
        )
    if None not in shape[1:3]:
        if shape[1:3] != size:
            raise CompressionError(
                f"{path} takes {shape[1]}x{shape[2]} pixels, not {size[0]}x{size[1]}; leave the size out"
            )
        return model
    if not isinstance(model, keras.Model):
        (taken,) = model.inputs
        import tensorflow as tf

        return replace(model, inputs=(tf.TensorSpec((shape[0], *size, shape[3]), taken.dtype, taken.name),))
    # The same layers, called on images of this size.
    image = keras.tree.pack_sequence_as(model.input, [keras.Input((*size, shape[3]))])
    try:
        return keras.models.clone_model(model, input_tensors=image, clone_function=lambda layer: layer)
    except ValueError as error:
        raise CompressionError(f"{path} does not take {size[0]}x{size[1]} pixels: {first_line(error)}") from error

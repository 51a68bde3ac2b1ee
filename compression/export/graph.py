"""Models that show no layers: TensorFlow's SavedModel folders, and files of Keras 2."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras

from slimcam.compression.errors import CompressionError
from slimcam.deploy.common.messages import first_line

SIGNATURE = "serving_default"


@dataclass(frozen=True, eq=False)
class Graph:
    """A model that can be called and no more: it is converted and quantized as it is, and not pruned.

    Attributes:
        name: Of the model.
        inputs: What it takes, the number of samples first.
        output_names: Names of what it gives.
        weights: Its variables.
    """

    name: str
    inputs: tuple[Any, ...]
    output_names: tuple[str, ...]
    weights: tuple[Any, ...]
    _function: Callable[[Sequence[Any]], list[Any]]

    @property
    def parameters(self) -> int:
        """Number of single weights."""
        return sum(int(tf.size(weight)) for weight in self.weights)

    def __call__(self, inputs: Any, *, training: bool = False) -> list[Any]:
        """The outputs for tensors `(N, ...)`, one or a list of them."""
        assert not training
        return self._function(inputs if isinstance(inputs, list) else [inputs])


def of_saved_model(folder: Path) -> Graph:
    """The graph of a SavedModel, by its signature `serving_default`.

    Raises:
        CompressionError: The folder holds no SavedModel, or one without that signature.
    """
    try:
        loaded = tf.saved_model.load(str(folder))
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise CompressionError(f"{folder} cannot be read as a SavedModel: {first_line(error)}") from error
    if SIGNATURE not in loaded.signatures:
        raise CompressionError(
            f"{folder} has no signature {SIGNATURE!r}, only {sorted(loaded.signatures)}; save it with one, as "
            "model.export(FOLDER) of Keras does"
        )
    signature = loaded.signatures[SIGNATURE]
    taken = signature.structured_input_signature[1]
    names, outputs = sorted(taken), sorted(signature.structured_outputs)

    def call(inputs: Sequence[Any], owner: Any = loaded) -> list[Any]:  # noqa: ARG001 - its variables live as long
        found = signature(**dict(zip(names, inputs, strict=True)))
        return [found[name] for name in outputs]

    specs = tuple(tf.TensorSpec(taken[name].shape, taken[name].dtype, name) for name in names)
    return Graph(folder.resolve().name, specs, tuple(outputs), tuple(signature.variables), call)


def of_keras_2(file: Path) -> Graph:
    """The graph of a file that Keras 2 wrote.

    Raises:
        CompressionError: It cannot be read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = tf_keras.models.load_model(file, compile=False)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise CompressionError(f"{file} cannot be read as a Keras model: {first_line(error)}") from error
    if not getattr(model, "inputs", None):
        raise CompressionError(f"{file} holds a model that has not been built; call it once before it is saved")

    def call(inputs: Sequence[Any]) -> list[Any]:
        return list(tf.nest.flatten(model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)))

    specs = tuple(tf.TensorSpec(each.shape, each.dtype, each.name.split(":")[0]) for each in model.inputs)
    return Graph(model.name, specs, tuple(model.output_names), tuple(model.variables), call)

"""A model of the same weights whose training step is faster.

Profiled on two x86 cores (`docs/recipe.md`): Keras 3 writes BatchNormalization out as a dozen elementwise operations,
which on TensorFlow cost as much as the convolutions of a slim network; TensorFlow's fused kernel does the same in one.
Feature maps in bfloat16 halve what memory has to carry and double the multiplications.
"""

from __future__ import annotations

from typing import Any

import keras

from slimcam.deploy.common.messages import first_line
from slimcam.training.fit.config import FitConfig

_FORGOTTEN = 10.0
"""Time constants of the moving statistics that a fit has at least: e^-10 is left of those it began with."""

_LEAST_MOMENTUM = 0.5


def accelerated(model: Any, config: FitConfig, steps: int | None = None) -> Any:
    """A copy of a Keras 3 model that trains faster: weights are its own, in the order of the model's.

    Where the schedule changes the images' size, the copy takes images of any size. Its moving statistics of batch
    normalization forget initial ones within `steps`, whatever the model's momentum: 0.999, as MobileNetV3 has it,
    takes thousands of steps for that, and before it a network that has learned guesses in inference.

    Raises:
        ValueError: the model is not one that takes images of any size, but `config.sizes` asks for it.
    """

    def copied(layer: Any) -> Any:
        settings = layer.get_config()
        if config.precision == "bfloat16" and "dtype" in settings and _gives_maps(layer):
            settings["dtype"] = "mixed_bfloat16"
        if steps is not None and "momentum" in settings and isinstance(layer, keras.layers.BatchNormalization):
            settings["momentum"] = min(settings["momentum"], max(_LEAST_MOMENTUM, 1 - _FORGOTTEN / steps))
        if type(layer) is keras.layers.BatchNormalization and keras.backend.backend() == "tensorflow":
            # Imported late: it brings TensorFlow, whatever Keras' backend is.
            from slimcam.training.fit.fused_batch_norm import FusedBatchNormalization

            return FusedBatchNormalization.from_config(settings)
        return type(layer).from_config(settings)

    any_size = (None, None, model.inputs[0].shape[-1])
    inputs = keras.tree.map_structure(lambda _: keras.Input(any_size), model.input) if config.sizes else None
    try:
        copy = keras.models.clone_model(model, input_tensors=inputs, clone_function=copied)
    except (ValueError, TypeError) as error:
        if not config.sizes:
            raise
        raise ValueError(f"fit.sizes: {model.name} does not take images of any size ({first_line(error)})") from error
    copy.set_weights(model.get_weights())
    return copy


def _gives_maps(layer: Any) -> bool:
    """Whether a layer's results are feature maps; pooled features and embeddings keep all their digits."""
    outputs = [output for node in layer._inbound_nodes for output in node.output_tensors]
    return all(len(output.shape) == 4 and tuple(output.shape[1:3]) != (1, 1) for output in outputs)

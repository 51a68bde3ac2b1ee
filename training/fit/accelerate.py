"""A model of the same weights whose training step is faster.

Profiled on two x86 cores (`docs/recipe.md`): Keras 3 writes BatchNormalization out as a dozen elementwise operations,
which on TensorFlow cost as much as the convolutions of a slim network; TensorFlow's fused kernel does the same in one.
Feature maps in bfloat16 halve what memory has to carry and double the multiplications.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import keras

from slimcam.deploy.common.messages import first_line
from slimcam.training.fit.config import FitConfig


def accelerated(model: Any, config: FitConfig) -> Any:
    """A copy of a Keras 3 model that trains faster: weights are its own, in the order of the model's.

    Where the schedule changes the images' size, the copy takes images of any size.

    Raises:
        ValueError: the model is not one that takes images of any size, but `config.sizes` asks for it.
    """

    def copied(layer: Any) -> Any:
        settings = layer.get_config()
        if config.precision == "bfloat16" and "dtype" in settings and _gives_maps(layer):
            settings["dtype"] = "mixed_bfloat16"
        if type(layer) is keras.layers.BatchNormalization and keras.backend.backend() == "tensorflow":
            return _fused_type().from_config(settings)
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


@cache
def _fused_type() -> Any:
    """BatchNormalization by TensorFlow's fused kernel while it trains, made when TensorFlow is there to make it of."""
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
        def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            standard = self.scale and self.center and self.axis in (-1, 3) and len(inputs.shape) == 4
            if not (training and self.trainable and standard) or mask is not None or self.renorm:
                return super().call(inputs, training=training, mask=mask)
            result, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=inputs,
                scale=self.gamma.value,
                offset=self.beta.value,
                mean=(),
                variance=(),
                epsilon=self.epsilon,
                is_training=True,
            )
            # The kernel gives the unbiased variance; Keras keeps the one that it normalized by.
            count = tf.cast(tf.size(inputs) // tf.size(mean), variance.dtype)
            variance *= (count - 1.0) / count
            for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
            return result

    return FusedBatchNormalization

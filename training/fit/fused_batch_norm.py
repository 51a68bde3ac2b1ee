"""BatchNormalization by TensorFlow's fused kernel while it trains.

Keras 3 writes it out as a dozen elementwise operations. On x86 the kernel is oneDNN's, which is fast where channels are
a multiple of 16, and five times slower elsewhere. There, neighboring positions of a map are taken as further channels:
the memory is the same, and the statistics of the parts are merged to those of all positions, forward and backward, so
that what is computed does not change.
"""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

_LANES = 16


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Computes what its parent does; by the fused kernel while it trains."""

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        standard = self.scale and self.center and self.axis in (-1, 3) and len(inputs.shape) == 4
        if not (training and self.trainable and standard) or mask is not None or self.renorm:
            return super().call(inputs, training=training, mask=mask)
        scale, offset = (tf.convert_to_tensor(each.value) for each in (self.gamma, self.beta))
        _, height, width, channels = inputs.shape
        parts = _LANES // math.gcd(_LANES, channels)
        if parts > 1 and height and width and height * width % parts == 0:
            result, mean, variance = _in_parts(inputs, scale, offset, self.epsilon, parts)
        else:
            result, mean, variance = _whole(inputs, scale, offset, self.epsilon)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return result


def _whole(inputs: Any, scale: Any, offset: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """The normalized `(N, H, W, C)`, and mean and variance `(C,)`, that by which it is normalized."""
    result, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs, scale=scale, offset=offset, mean=(), variance=(), epsilon=epsilon, is_training=True
    )
    # The kernel gives the unbiased variance; Keras keeps the one that it normalizes by.
    count = tf.cast(tf.size(inputs) // tf.size(mean), variance.dtype)
    return result, mean, variance * (count - 1.0) / count


def _in_parts(inputs: Any, scale: Any, offset: Any, epsilon: float, parts: int) -> tuple[Any, Any, Any]:
    """As `_whole`; so many neighboring positions, which divide those of a map, are taken for one of more channels."""
    _, height, width, channels = inputs.shape
    wide = (-1, 1, height * width // parts, parts * channels)

    def repeated(values: Any) -> Any:
        return tf.tile(values, [parts])

    def by_part(values: Any) -> Any:
        return tf.reshape(values, (parts, channels))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def normalize(inputs: Any, scale: Any, offset: Any) -> Any:
        images = tf.reshape(inputs, wide)
        ones = tf.ones(parts * channels, scale.dtype)
        _, mean, variance = _whole(images, ones, 0.0 * ones, epsilon)
        means = by_part(mean)
        mean = tf.reduce_mean(means, 0)
        variance = tf.reduce_mean(by_part(variance) + tf.square(means - mean), 0)

        def affine(scale: Any, offset: Any) -> list[Any]:
            return list(
                tf.raw_ops.FusedBatchNormV3(
                    x=images,
                    scale=repeated(scale),
                    offset=repeated(offset),
                    mean=repeated(mean),
                    variance=repeated(variance),
                    epsilon=epsilon,
                    is_training=False,
                )
            )

        result, *_, reserved = affine(scale, offset)

        def gradient(upstream: Any, *of_statistics: Any) -> Any:  # noqa: ARG001 - nothing learns of them
            direct, scales, offsets, *_ = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=tf.reshape(upstream, wide),
                x=images,
                scale=repeated(scale),
                reserve_space_1=repeated(mean),
                reserve_space_2=repeated(variance),
                reserve_space_3=reserved,
                epsilon=epsilon,
                is_training=False,
            )
            of_scale, of_offset = (tf.reduce_sum(by_part(each), 0) for each in (scales, offsets))
            # What comes through mean and variance (Ioffe and Szegedy 2015, section 3) is affine in the images too.
            share = scale * tf.math.rsqrt(variance + epsilon) * channels / tf.cast(tf.size(images), scale.dtype)
            indirect, *_ = affine(share * of_scale, share * of_offset)
            return tf.reshape(direct - indirect, tf.shape(inputs)), of_scale, of_offset

        return (tf.reshape(result, tf.shape(inputs)), mean, variance), gradient

    normalized, mean, variance = normalize(inputs, scale, offset)
    return tf.ensure_shape(normalized, inputs.shape), mean, variance

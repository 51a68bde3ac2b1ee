"""Quantization ranges that an int8 runtime cannot take, and the smallest change that makes it take them.

XNNPACK refuses convolutions and additions beyond some ratios of scales (`slimcam.compression.export.xnnpack_limits`).
The converter leaves a convolution float when one channel's folded weight scale is zero, and biases, int32 in steps of
input scale x weight scale, saturate when that is tiny. Dead channels (a kernel or gamma of zero) and dead layers do
all this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tf_keras
from numpy.typing import NDArray
from tensorflow_model_optimization.python.core.quantization.keras.quantize_layer import QuantizeLayer
from tensorflow_model_optimization.python.core.quantization.keras.quantize_wrapper import QuantizeWrapper

from slimcam.compression.export import xnnpack_limits
from slimcam.compression.layers.table import LAYERS
from slimcam.compression.layers.weights import Kernel

# Within XNNPACK's limits by a factor of two or more.
_MAX_REQUANTIZATION = xnnpack_limits.REQUANTIZATION / 2
_MIN_REQUANTIZATION = 2.0**-30
_MAX_RESCALE = xnnpack_limits.ADDITION[1] / 4
_MIN_RESCALE = xnnpack_limits.ADDITION[0] * 8
_MAX_PRODUCT = xnnpack_limits.MULTIPLICATION[1] / 4
_MAX_BIAS = 2.0**30
# Keeps scales of layers that are dead throughout, and with them the products of three scales, normal float32 numbers.
_MIN_SCALE = 1e-9


def clipped_range(lows: NDArray[Any], highs: NDArray[Any], percentile: float) -> tuple[float, float]:
    """What an activation is quantized in.

    Args:
        lows: Its smallest value in each image.
        highs: Its largest.
        percentile: Of the images, by how far out their extremes lie, that the range holds at either end.
    """
    low, high = float(np.percentile(lows, 100 - percentile)), float(np.percentile(highs, percentile))
    if low == high == 0:  # a few images alone activate it
        low, high = float(lows.min()), float(highs.max())
    # Zero must be representable: it is what padding adds.
    return min(0.0, low), max(0.0, high)


def own_ranges(model: tf_keras.Model) -> dict[str, tuple[float, float]]:
    """The range of each layer of a quantization-aware model that quantizes what it gives, by the layer's name.

    Args:
        model: from `qat.quantize_aware`, calibrated or trained.
    """
    named = {(layer.layer if isinstance(layer, QuantizeWrapper) else layer).name: layer for layer in model.layers}
    found = {name: _own_range(layer) for name, layer in named.items()}
    return {name: (range_.low, range_.high) for name, range_ in found.items() if range_ is not None}


def widen(model: tf_keras.Model) -> None:
    """Widens those ranges of a quantization-aware model that an int8 runtime would refuse, in place.

    Nothing visible is lost: a range is only raised to where one step of the output is 1/128 of one step of the products
    that it sums, an addend to where its whole range is two steps of the sum, a channel's weights to where its largest
    sum stays below a step of the output, or its bias fits int32. Where there is batch normalization, the channel is
    rescaled between it and the kernel, which leaves the float model as it is. Models without such ranges are not
    changed.

    Args:
        model: from `qat.quantize_aware`, calibrated or trained.
    """
    steps = _steps(model)
    # Widening one range can ask for another one, downstream or at the other input of an addition: until all hold.
    for _ in range(len(steps)):
        changed = [step.widen() for step in steps]
        if not any(changed):
            return


@dataclass
class _Range:
    """The range of an activation.

    Attributes:
        limits: tfmot's variables `min_var` and `max_var`; None where the range is fixed.
        low: Smallest value.
        high: Largest value.
    """

    limits: dict[str, Any] | None
    low: float
    high: float

    @property
    def scale(self) -> float:
        return (self.high - self.low) / 255

    def raise_to(self, scale: float) -> bool:
        scale = max(scale, _MIN_SCALE)
        if self.limits is None or self.scale >= scale:
            return False
        # A little more, so that rounding does not bring the range back below the bound.
        factor = 1.01 * scale / self.scale if self.scale > 0 else 0.0
        self.low, self.high = (self.low * factor, self.high * factor) if factor else (0.0, 1.01 * 255 * scale)
        self.limits["min_var"].assign(self.low)
        self.limits["max_var"].assign(self.high)
        return True


@dataclass
class _Weighted:
    """A convolution or dense layer, with the batch normalization that the converter folds into it."""

    wrapper: QuantizeWrapper
    kernel: Kernel
    source: _Range
    norm: Any = None
    result: _Range | None = None

    def widen(self) -> bool:
        result = self.result
        assert result is not None
        self._give_width_to_empty_kernels()
        scales = self._weight_scales()
        changed = result.raise_to(self.source.scale * float(scales.max()) / _MAX_REQUANTIZATION)
        least = np.maximum(
            np.abs(self._bias()) / (_MAX_BIAS * self.source.scale),
            max(_MIN_REQUANTIZATION * result.scale / self.source.scale, _MIN_SCALE),
        )
        if np.any(scales < least):
            # A little more, so that rounding does not bring the scale back below the bound.
            self._raise_weight_scales(scales < least, 1.01 * least * np.ones_like(scales))
            changed = True
        return changed

    def _give_width_to_empty_kernels(self) -> None:
        _, _, limits = self.wrapper._weight_vars[0]
        width = limits["max_var"].numpy()
        if np.any(width <= 0):
            limits["max_var"].assign(np.where(width > 0, width, 1.0))
            limits["min_var"].assign(np.where(width > 0, limits["min_var"].numpy(), -1.0))

    def _weight_scales(self) -> NDArray[np.float64]:
        _, _, limits = self.wrapper._weight_vars[0]
        scales: NDArray[np.float64] = np.abs(self._factor()) * limits["max_var"].numpy().astype(np.float64) / 127
        return scales

    def _factor(self) -> NDArray[np.float64]:
        """By which batch normalization multiplies each channel."""
        channels = self.wrapper.layer.compute_output_shape(self.wrapper.input_shape)[-1]
        if self.norm is None:
            return np.ones(channels)
        gamma = np.ones(channels) if self.norm.gamma is None else self.norm.gamma.numpy().astype(np.float64)
        factor: NDArray[np.float64] = gamma / np.sqrt(self.norm.moving_variance.numpy() + self.norm.epsilon)
        return factor

    def _bias(self) -> NDArray[np.float64]:
        layer = self.wrapper.layer
        bias = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.float64(0)
        if self.norm is None:
            return np.asarray(bias)
        beta = np.float64(0) if self.norm.beta is None else self.norm.beta.numpy().astype(np.float64)
        return np.asarray((bias - self.norm.moving_mean.numpy()) * self._factor() + beta)

    def _raise_weight_scales(self, low: NDArray[np.bool_], least: NDArray[np.float64]) -> None:
        kernel, _, limits = self.wrapper._weight_vars[0]
        width = limits["max_var"].numpy()
        if self.norm is None or self.norm.gamma is None:
            needed = np.where(low, 127 * least / self._factor(), 0.0)
            width = np.maximum(width, needed if width.shape == needed.shape else needed.max())
            limits["max_var"].assign(width)
            limits["min_var"].assign(-width)
            return
        # (conv + bias - mean) * old == (conv * ratio + bias - new mean) * new
        old = self._factor()
        new = np.where(low, 127 * least / width, old)
        ratio = np.divide(old, new, out=np.ones_like(old), where=low)
        bias = self.wrapper.layer.bias.numpy() if self.wrapper.layer.use_bias else 0.0
        mean, variance = self.norm.moving_mean.numpy(), self.norm.moving_variance.numpy()
        self.norm.moving_mean.assign(np.where(low, bias - (bias - mean) * ratio, mean))
        self.norm.gamma.assign(np.where(low, new * np.sqrt(variance + self.norm.epsilon), self.norm.gamma.numpy()))
        kernel.assign(kernel.numpy() * ratio.reshape(kernel.shape[-len(self.kernel.writes) :]))


@dataclass
class _Rescaled:
    """Everything else that reads quantized values and writes quantized values: additions, means, concatenations."""

    sources: Sequence[_Range]
    result: _Range

    def widen(self) -> bool:
        changed = [self.result.raise_to(source.scale / _MAX_RESCALE) for source in self.sources]
        changed += [source.raise_to(self.result.scale * _MIN_RESCALE) for source in self.sources]
        return any(changed)


@dataclass
class _Product:
    """A product of two quantized tensors."""

    sources: Sequence[_Range]
    result: _Range

    def widen(self) -> bool:
        left, right = self.sources
        return self.result.raise_to(left.scale * right.scale / _MAX_PRODUCT)


@dataclass
class _Value:
    """What a layer gives: a quantized activation, or one whose quantization comes with a later layer."""

    range: _Range | None = None
    pending: list[_Weighted] = field(default_factory=list)


_Step = _Weighted | _Rescaled | _Product


def _steps(model: tf_keras.Model) -> list[_Step]:
    """The computations between quantized activations, first to last."""
    values: dict[int, _Value] = {}
    steps: list[_Step] = []
    for layer in model.layers:
        nodes = [node for node in layer.inbound_nodes if not node.is_input]
        sources = [values[id(each)] for node in nodes for each, *_ in node.iterate_inbound() if id(each) in values]
        known = [value.range for value in sources if value.range is not None]
        pending = [step for value in sources for step in value.pending]
        result = _own_range(layer)
        inner = layer.layer if isinstance(layer, QuantizeWrapper) else layer
        kernel = _kernel(inner)
        if kernel is not None and known and layer._weight_vars:
            pending = [_Weighted(layer, kernel, known[0])]
        elif isinstance(inner, tf_keras.layers.BatchNormalization) and len(pending) == 1:
            pending[0].norm = inner
        elif result is not None and known:
            product = type(inner).__name__ == "Multiply" and len(known) == 2
            steps.append(_Product(known, result) if product else _Rescaled(known, result))
        if result is None:
            # Padding, max pooling and reshaping keep the range of what they are given.
            values[id(layer)] = _Value(None if pending else next(iter(known), None), pending)
            continue
        for step in pending:
            step.result = result
        steps += pending
        values[id(layer)] = _Value(result)
    return steps


def _kernel(layer: Any) -> Kernel | None:
    """The kernel of a layer that has one, with an int8 scale for each channel that its last axes write."""
    spec = LAYERS.get(type(layer).__name__)
    if spec is None or len(spec.kernels) != 1 or spec.kernels[0].writes[-1] != -1:
        return None
    return spec.kernels[0]


def _own_range(layer: Any) -> _Range | None:
    """The range to which a layer quantizes its result, None for a layer that does not."""
    if isinstance(layer, QuantizeLayer):
        return _range_of(layer.quantizer, layer.quantizer_vars)
    if isinstance(layer, QuantizeWrapper) and layer._output_quantizers:
        return _range_of(layer._output_quantizers[0], layer._output_quantizer_vars)
    return None


def _range_of(quantizer: Any, limits: dict[str, Any] | None) -> _Range:
    if limits is None:
        return _Range(None, quantizer.init_min, quantizer.init_max)
    return _Range(limits, float(limits["min_var"]), float(limits["max_var"]))

"""How the output of each kind of layer is quantized to int8."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Int8Output:
    """What TFLite's int8 kernel of a layer writes.

    Attributes:
        passes: Whether the output has the scale of the input, which needs no quantization of its own.
        limits: Range that the kernel prescribes; None for the range of what was observed.
        fuses: Whether a ReLU that alone reads the output is computed in the same operator.
    """

    passes: bool = False
    limits: tuple[float, float] | None = None
    fuses: bool = False


_OBSERVED, _PASSING, _FUSING = Int8Output(), Int8Output(passes=True), Int8Output(fuses=True)

OUTPUTS: dict[str, Int8Output] = {
    **dict.fromkeys(("Conv2D", "DepthwiseConv2D", "Conv2DTranspose", "Dense", "BatchNormalization"), _FUSING),
    **dict.fromkeys(("Add", "Subtract", "Multiply"), _FUSING),
    **dict.fromkeys(("ReLU", "LeakyReLU", "Rescaling", "Concatenate"), _OBSERVED),
    **dict.fromkeys(("AveragePooling1D", "AveragePooling2D"), _OBSERVED),
    **{f"GlobalAveragePooling{rank}D": _OBSERVED for rank in (1, 2, 3)},
    **{f"{name}{rank}D": _PASSING for name in ("Cropping", "ZeroPadding") for rank in (1, 2)},
    **{f"GlobalMaxPooling{rank}D": _PASSING for rank in (1, 2, 3)},
    **dict.fromkeys(("MaxPooling2D", "UpSampling2D", "Resizing"), _PASSING),
    **dict.fromkeys(("Flatten", "Permute", "Reshape", "ActivityRegularization"), _PASSING),
    **dict.fromkeys(("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"), _PASSING),
    "Softmax": Int8Output(limits=(0.0, 255 / 256)),
}

ACTIVATION_OUTPUTS: dict[str, Int8Output] = {
    "relu": _OBSERVED,
    "linear": _OBSERVED,
    "sigmoid": Int8Output(limits=(0.0, 255 / 256)),
    "softmax": Int8Output(limits=(0.0, 255 / 256)),
    "tanh": Int8Output(limits=(-1.0, 127 / 128)),
}
"""Outputs of `Activation`, by the function (https://ai.google.dev/edge/litert/models/quantization_spec)."""

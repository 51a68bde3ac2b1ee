"""What XNNPACK takes of an int8 graph (LiteRT, xnnpack_delegate.cc; https://github.com/google/XNNPACK/issues/3693)."""

from __future__ import annotations

REQUANTIZATION = 2.0**8
"""Bound of a convolution's requantization scale (input scale * weight scale / output scale), itself excluded. At the
bound XNNPACK fails to create the interpreter; it does not fall back."""

ADDITION = (2.0**-10, 2.0**8)
"""Range of the scale of an addend over the scale of the sum, the upper bound excluded."""

MULTIPLICATION = (2.0**-16, 2.0**8)
"""Range of the product of both factors' scales over the scale of the product, the upper bound excluded."""

FLOAT_ONLY = frozenset(
    {
        "AVERAGE_POOL_2D",
        "DIV",
        "HARD_SWISH",
        "L2_NORMALIZATION",
        "MAXIMUM",
        "MINIMUM",
        "PRELU",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "SQRT",
    }
)
"""Operators that XNNPACK runs in float only (L2_NORMALIZATION not at all): in an int8 graph they split the delegate."""

"""The facts of Keras' activation functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ActivationSpec:
    """What is known of one activation function.

    Attributes:
        keras2: Name of the same function in tf_keras, or one that computes the same on tf_keras tensors; None where
            there is neither.
        elementwise: Whether it maps each element by itself; otherwise the channels of its result depend on each other.
        homogeneous: Whether a positive factor passes through, f(a x) = a f(x).
    """

    keras2: str | Callable[[Any], Any] | None = None
    elementwise: bool = True
    homogeneous: bool = False


def relu6(x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.relu6(x)


def hard_sigmoid(x: Any) -> Any:
    """Keras 3's, which differs from the 0.2 x + 0.5 of Keras 2."""
    return relu6(x + 3.0) / 6.0


def hard_silu(x: Any) -> Any:
    return x * hard_sigmoid(x)


def leaky_relu(x: Any) -> Any:
    import tensorflow as tf

    return tf.nn.leaky_relu(x, alpha=0.2)


ACTIVATIONS: dict[str, ActivationSpec] = {
    "linear": ActivationSpec("linear", homogeneous=True),
    "relu": ActivationSpec("relu", homogeneous=True),
    "leaky_relu": ActivationSpec(leaky_relu, homogeneous=True),
    "softmax": ActivationSpec("softmax", elementwise=False),
    "silu": ActivationSpec("swish"),
    "relu6": ActivationSpec(relu6),
    "hard_sigmoid": ActivationSpec(hard_sigmoid),
    "hard_silu": ActivationSpec(hard_silu),
    **{
        name: ActivationSpec(name)
        for name in ("elu", "exponential", "gelu", "mish", "selu", "sigmoid", "softplus", "softsign", "tanh")
    },
    **{
        name: ActivationSpec()
        for name in (
            *("celu", "threshold", "log_sigmoid", "sparse_sigmoid", "squareplus", "sparse_plus", "hard_tanh"),
            *("soft_shrink", "hard_shrink", "tanh_shrink"),
        )
    },
}

_UNKNOWN = ActivationSpec(elementwise=False)


def activation_spec(activation: Any) -> ActivationSpec:
    """The facts of an activation function; nothing is known of one that is not Keras' own."""
    module = getattr(activation, "__module__", "") or ""
    return ACTIVATIONS.get(getattr(activation, "__name__", ""), _UNKNOWN) if module.startswith("keras.") else _UNKNOWN

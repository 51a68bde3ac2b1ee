"""Small networks, one for each thing that networks do: what compression is tried on.

`python -m slimcam.compression.coverage examples` quantizes each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_SIDE = 16


def _convolution(x: Any, filters: int = 16, size: int = 3, *, strides: int = 1, groups: int = 1) -> Any:
    """Convolution, batch normalization and ReLU."""
    from keras import layers

    x = layers.Conv2D(filters, size, strides, padding="same", groups=groups, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _head(x: Any, units: int = 8) -> Any:
    from keras import layers

    return layers.Flatten()(layers.Conv2D(units, 1)(layers.GlobalAveragePooling2D(keepdims=True)(x)))


def _image() -> Any:
    import keras

    return keras.Input((_SIDE, _SIDE, 3))


def _within(block: Callable[[Any], Any]) -> Callable[[], Any]:
    """A network that has a block of 16 channels between a stem and a head."""

    def build() -> Any:
        import keras

        image = _image()
        return keras.Model(image, _head(_convolution(block(_convolution(image)))))

    return build


def _nested(x: Any) -> Any:
    import keras

    inner = keras.Input(x.shape[1:])
    model = keras.Model(inner, _convolution(_convolution(inner)))
    return keras.Sequential([model, keras.layers.Conv2D(16, 1), keras.layers.ReLU()])(x)


def _shared(x: Any) -> Any:
    from keras import layers

    convolution = layers.Conv2D(16, 3, padding="same")
    return layers.Add()([layers.ReLU()(convolution(x)), layers.ReLU()(convolution(layers.ReLU()(convolution(x))))])


def _siamese() -> Any:
    import keras
    from keras import layers

    image = _image()
    tower = keras.Model(image, _head(_convolution(_convolution(image))))
    left, right = _image(), _image()
    return keras.Model([left, right], layers.Subtract()([tower(left), tower(right)]))


def _two_in_two_out() -> Any:
    import keras
    from keras import layers

    left, right = _image(), _image()
    x = layers.Concatenate()([_convolution(left), _convolution(right)])
    x = _convolution(x)
    return keras.Model([left, right], [_head(x, 8), _head(_convolution(x), 4)])


def _se_layers(x: Any) -> Any:
    """Squeeze and excitation (Hu et al. 2018), of layers."""
    from keras import layers

    y = layers.GlobalAveragePooling2D(keepdims=True)(x)
    y = layers.Conv2D(16, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="relu")(y))
    return layers.Multiply()([x, y])


def _se_dense(x: Any) -> Any:
    """Squeeze and excitation of dense layers and a reshape."""
    from keras import layers

    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(16, activation="sigmoid")(layers.Dense(4, activation="relu")(y))
    return layers.Multiply()([x, layers.Reshape((1, 1, 16))(y)])


def _se_ops(x: Any) -> Any:
    """Squeeze and excitation of recorded operations."""
    from keras import layers, ops

    y = ops.mean(x, axis=(1, 2), keepdims=True)
    return x * layers.Activation("hard_sigmoid")(layers.Conv2D(16, 1)(layers.Conv2D(4, 1, activation="relu")(y)))


def _transposed(x: Any) -> Any:
    from keras import layers

    x = layers.Conv2DTranspose(16, 3, 2, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _multiplier(x: Any) -> Any:
    from keras import layers

    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _u_net() -> Any:
    import keras
    from keras import layers

    image = _image()
    fine = _convolution(image)
    middle = _convolution(layers.MaxPooling2D()(fine), 32)
    coarse = _convolution(layers.MaxPooling2D()(middle), 32)
    middle = _convolution(layers.Concatenate()([layers.UpSampling2D()(coarse), middle]), 32)
    fine = _convolution(layers.Concatenate()([_transposed(middle), fine]))
    return keras.Model(image, layers.Conv2D(4, 1)(fine))


def _fpn() -> Any:
    """A feature pyramid (Lin et al. 2017)."""
    import keras
    from keras import layers

    image = _image()
    fine = _convolution(image, strides=2)
    coarse = _convolution(fine, 32, strides=2)
    top = layers.Conv2D(16, 1)(coarse)
    bottom = layers.Add()([layers.Conv2D(16, 1)(fine), layers.UpSampling2D()(top)])
    return keras.Model(image, [layers.Conv2D(8, 3, padding="same")(each) for each in (bottom, top)])


def _shuffle(x: Any) -> Any:
    """Grouped convolutions whose channels are shuffled (Zhang et al. 2018)."""
    from keras import layers, ops

    x = _convolution(x, groups=4)
    _, height, width, channels = x.shape
    x = ops.transpose(ops.reshape(x, (-1, height, width, 4, channels // 4)), (0, 1, 2, 4, 3))
    return layers.Conv2D(16, 3, padding="same", groups=4)(ops.reshape(x, (-1, height, width, channels)))


def _slices(x: Any) -> Any:
    from keras import layers

    left, right = x[..., :8], x[..., 8:]
    return layers.Concatenate()([_convolution(left, 8), right])


def _one_dimensional() -> Any:
    import keras
    from keras import layers

    series = keras.Input((32, 4))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(16, 3, padding="same", use_bias=False)(series)))
    x = layers.MaxPooling1D()(layers.ReLU()(layers.Conv1D(32, 3, padding="causal")(x)))
    return keras.Model(series, layers.Dense(8)(layers.GlobalAveragePooling1D()(x)))


def _mlp() -> Any:
    import keras
    from keras import layers

    pixels = keras.Input((784,))
    x = layers.Dense(128, activation="relu")(layers.Dense(256, activation="relu")(pixels))
    return keras.Model(pixels, layers.Dense(10)(x))


def _lstm() -> Any:
    import keras
    from keras import layers

    series = keras.Input((16, 4))
    return keras.Model(series, layers.Dense(4)(layers.LSTM(8, name="lstm")(series)))


def _layer_norm(x: Any) -> Any:
    from keras import layers

    return layers.LayerNormalization(name="norm")(x)


def _attention(x: Any) -> Any:
    from keras import layers

    rows = layers.Reshape((_SIDE * _SIDE, 16))(x)
    rows = layers.MultiHeadAttention(2, 8, name="attention")(rows, rows)
    return layers.Reshape((_SIDE, _SIDE, 16))(rows)


EXAMPLES: dict[str, Callable[[], Any]] = {
    "nested": _within(_nested),
    "shared layer": _within(_shared),
    "siamese": _siamese,
    "two inputs and outputs": _two_in_two_out,
    "SE of layers": _within(_se_layers),
    "SE of dense layers": _within(_se_dense),
    "SE of operations": _within(_se_ops),
    "grouped": _within(lambda x: _convolution(x, groups=4)),
    "transposed with BN": _within(_transposed),
    "depthwise, multiplier 2": _within(_multiplier),
    "U-Net": _u_net,
    "FPN": _fpn,
    "channel shuffle": _within(_shuffle),
    "slices": _within(_slices),
    "Conv1D": _one_dimensional,
    "MLP 784-256-128-10": _mlp,
    "LSTM": _lstm,
    "LayerNormalization": _within(_layer_norm),
    "attention": _within(_attention),
}
"""Constructors of the networks, by what they show."""

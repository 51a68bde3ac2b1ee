"""Backbones beside those of Keras: two of ours, those of files, those of a user's function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slimcam.deploy.common.messages import first_line


def small_resnet(input_shape: tuple[int, int, int], width: int = 24) -> Any:
    """A residual network of four stages with one basic block each (He et al. 2015, section 4.2).

    An example of a builder. At 64x64 and the default width: 0.7 M parameters, 36 M multiply-accumulates.

    Args:
        input_shape: `(height, width, 3)`.
        width: channels of the first stage; each further one has twice as many on half the side.

    Returns:
        A Keras 3 model with features `(N, height / 16, width / 16, 8 * width)`.
    """
    import keras

    inputs = keras.Input(input_shape)
    x = _conv(inputs, width, 3, 2, "stem")
    for stage in range(4):
        channels, stride = width * 2**stage, 1 if stage == 0 else 2
        name = f"stage{stage + 1}"
        shortcut = x if stage == 0 else _conv(x, channels, 1, stride, f"{name}_shortcut", relu=False)
        y = _conv(x, channels, 3, stride, f"{name}_1")
        y = _conv(y, channels, 3, 1, f"{name}_2", relu=False)
        x = keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([y, shortcut]))
    return keras.Model(inputs, x, name="small_resnet")


def mlp(input_shape: tuple[int, int, int], widths: Sequence[int] = (256, 128)) -> Any:
    """A multilayer perceptron on the brightness of each pixel, without normalization: 784-256-128 for 28x28 pixels.

    Args:
        input_shape: `(height, width, 3)`.
        widths: units of each dense layer.

    Returns:
        A Keras 3 model with features `(N, 1, 1, widths[-1])`.
    """
    import keras

    inputs = keras.Input(input_shape)
    # The luma of ITU-R BT.601; it is not trained.
    luma = keras.layers.Conv2D(1, 1, use_bias=False, trainable=False, name="luma")
    x = keras.layers.Flatten(name="pixels")(luma(inputs))
    luma.set_weights([np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 1, 3, 1)])
    for number, width in enumerate(widths, 1):
        x = keras.layers.ReLU(name=f"dense{number}_relu")(keras.layers.Dense(width, name=f"dense{number}")(x))
    return keras.Model(inputs, keras.layers.Reshape((1, 1, widths[-1]), name="features")(x), name="mlp")


def _conv(x: Any, channels: int, kernel: int, stride: int, name: str, *, relu: bool = True) -> Any:
    import keras

    x = keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def of_file(file: str, size: int) -> Any:
    """The features of a `.keras` or `.h5` file, for `(N, size, size, 3)` images.

    A model of open size gets this one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, takes something else than such images, or does not give one feature map.
    """
    import keras

    if not Path(file).is_file():
        raise FileNotFoundError(f"model.backbone: no file {file}")
    title = f"model.backbone {Path(file).name}"
    try:
        model = keras.saving.load_model(file, compile=False)
    except TypeError as error:  # a class that nobody has registered
        raise ValueError(
            f"{title} holds a layer that is not of Keras; load the file in a function of a module that registers the "
            "layer, and give model.backbone=module:function"
        ) from error
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{title} cannot be read as a Keras model; is it whole? ({first_line(error)})") from error
    if isinstance(model, keras.Sequential):
        if not model.built:
            model.build((None, size, size, 3))
        model = model._functional
    if not isinstance(model, keras.Model) or not hasattr(model, "_nodes_by_depth"):
        raise ValueError(
            f"{title} is subclassed; a functional or sequential model is needed, keras.Model(inputs, outputs)"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"{title} has {len(model.inputs)} inputs and {len(model.outputs)} outputs; it needs one image in and one "
            "feature map out"
        )
    _, *shape = model.inputs[0].shape
    if len(shape) != 3 or shape[2] != 3:
        raise ValueError(
            f"{title} takes {tuple(shape)}; RGB images (height, width, 3) are needed: save it with "
            f"keras.Input(({size}, {size}, 3))"
        )
    if shape[:2] == [size, size]:
        return model
    if None not in shape:
        raise ValueError(
            f"{title} takes {shape[0]}x{shape[1]} pixels, but model.input_size is {size}; "
            + (f"set model.input_size={shape[0]}" if shape[0] == shape[1] else "save it for square images")
        )
    # The same layers, called on images of this size.
    image = keras.tree.pack_sequence_as(model.input, [keras.Input((size, size, 3))])
    try:
        return keras.models.clone_model(model, input_tensors=image, clone_function=lambda layer: layer)
    except ValueError as error:
        raise ValueError(f"{title} does not take {size}x{size} pixels: {first_line(error)}") from error

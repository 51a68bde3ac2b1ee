"""A backbone of our own for small machines, `model.backbone=small_resnet`; an example of bringing one."""

from __future__ import annotations

from typing import Any


def small_resnet(input_shape: tuple[int, int, int], width: int = 24) -> Any:
    """A residual network of four stages with one basic block each (He et al. 2015, section 4.2).

    At 64x64 and the default width: 0.7 M parameters, 36 M multiply-accumulates.

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


def _conv(x: Any, channels: int, kernel: int, stride: int, name: str, *, relu: bool = True) -> Any:
    import keras

    x = keras.layers.Conv2D(channels, kernel, stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x

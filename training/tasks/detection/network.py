"""The network of a detector."""

from __future__ import annotations

from typing import Any

from slimcam.deploy.vision.detector_output import CHANNELS, STRIDES
from slimcam.training.tasks.detection.config import DetectorConfig


def network(config: DetectorConfig) -> Any:
    """Builds the detector: `(N, height, width, 3)` normalized pixels to `(N, R, 12)`, see `targets.encode`.

    A plain single-shot detector (Liu et al. 2016, "SSD") with one square "anchor" a cell, and with
    `config.top_down` a feature pyramid (Lin et al. 2017); nothing in it but convolutions, ReLU, additions, nearest
    upsampling and the concatenation of the heads, all of which XNNPACK runs in int8.
    """
    import keras

    layers = keras.layers

    def convolution(x: Any, channels: int, name: str, strides: int = 1, shortcut: bool = False) -> Any:
        y = layers.Conv2D(channels, 3, strides, padding="same", use_bias=False, name=f"{name}_conv")(x)
        y = layers.BatchNormalization(name=f"{name}_norm")(y)
        if shortcut:
            y = layers.Add(name=f"{name}_add")([x, y])
        return layers.ReLU(name=f"{name}_relu")(y)

    def head(x: Any, name: str) -> Any:
        cells = layers.Conv2D(CHANNELS, 1, name=f"{name}_cells")(convolution(x, x.shape[-1], name))
        return layers.Reshape((-1, CHANNELS), name=f"{name}_rows")(cells)

    def top_down(fine: Any, coarse: Any, stride: int) -> Any:
        """The map of a stride, with what the next coarser one knows of its surroundings added."""
        y = layers.Conv2D(fine.shape[-1], 1, use_bias=False, name=f"top_down{stride}_conv")(coarse)
        # A scale of zero: a network trained without the pathway goes on from what it computes.
        y = layers.BatchNormalization(gamma_initializer="zeros", name=f"top_down{stride}_norm")(y)
        y = layers.UpSampling2D(2, name=f"top_down{stride}_larger")(y)
        rows, columns = (large - small for large, small in zip(y.shape[1:3], fine.shape[1:3], strict=True))
        if rows or columns:
            y = layers.Cropping2D(((0, rows), (0, columns)), name=f"top_down{stride}_cut")(y)
        return layers.Add(name=f"top_down{stride}_add")([fine, y])

    inputs = keras.Input((config.height, config.width, 3), name="image")
    stem, *stages = config.channels
    x = convolution(inputs, stem, "stride2", strides=2)
    maps: list[Any] = []
    for stride, channels, blocks in zip((4, 8, 16, 32), stages, config.blocks, strict=True):
        x = convolution(x, channels, f"stride{stride}", strides=2)
        for block in range(blocks):
            x = convolution(x, channels, f"stride{stride}_{block + 1}", shortcut=True)
        if stride in STRIDES:
            maps.append(x)
    if config.top_down:
        for index in reversed(range(len(maps) - 1)):
            maps[index] = top_down(maps[index], maps[index + 1], STRIDES[index])
    heads = [head(x, f"head{stride}") for x, stride in zip(maps, STRIDES, strict=True)]
    model = keras.Model(inputs, layers.Concatenate(axis=1, name="faces")(heads), name="detector")
    for stride in STRIDES:
        # Nearly all cells are empty, and a detector that says so learns from the start (Lin et al. 2017, section 3.3).
        model.get_layer(f"head{stride}_cells").bias.assign([-4.0] + [0.0] * (CHANNELS - 1))
    return model

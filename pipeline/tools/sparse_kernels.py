"""Files that tell what XNNPACK's sparse kernels give: a network of random weights with zeros, and with fewer channels.

    python -m slimcam.pipeline.tools.sparse_kernels FOLDER
    slimcam-benchmark target=snapdragon_625 model=[FOLDER/dense.tflite,FOLDER/zeros.tflite,...]

The network is a MobileNet (Howard et al. 2017) in the form that sparse inference needs: padding by layers of its own, a
3x3 convolution with stride 2 first, pooling before a dense layer last. What accuracy either way costs is not told.
"""

from __future__ import annotations

import argparse
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from slimcam.compression.export.tflite import float_tflite
from slimcam.compression.pruning.cost import cost
from slimcam.compression.pruning.pruned import prune
from slimcam.deploy.common.console import log_to_console, show
from slimcam.deploy.common.files import atomic
from slimcam.pipeline.worker import RESULTS_OF

_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
"""Channels and stride of each pair of a depthwise and a pointwise convolution."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line; writes the files and prints what they are."""
    log_to_console(to_stdout=RESULTS_OF)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the files are written")
    parser.add_argument("--ratio", type=float, default=0.8, help="share of the weights that goes (default 0.8)")
    parser.add_argument("--size", type=int, default=112, help="height and width of the input, pixels (default 112)")
    options = parser.parse_args(arguments)
    dense = network(options.size)
    smaller = prune(dense, target="parameters", ratio=options.ratio).model
    files = {"dense": (dense, False), "channels": (smaller, False)}
    sparse = keras.models.clone_model(dense)
    sparse.set_weights(dense.get_weights())
    clear(sparse, options.ratio)
    files |= {"zeros": (sparse, False), "sparse": (sparse, True)}
    for name, (model, encoded) in files.items():
        content = float_tflite(model, sparse=encoded)
        with atomic(options.folder / f"{name}.tflite") as partial:
            partial.write_bytes(content)
        found = cost(model)
        show(
            f"{name}: {found.parameters:,} parameters, {found.macs:,} MACs, {len(content) / 1e6:.2f} MB, "
            f"gzipped {len(gzip.compress(content)) / 1e6:.2f} MB"
        )


def network(size: int) -> Any:
    """The network, `(N, size, size, 3)` to `(N, 128)`."""
    layers = keras.layers
    keras.utils.set_random_seed(0)
    inputs = keras.Input((size, size, 3))
    x = layers.ReLU()(layers.Conv2D(32, 3, strides=2)(layers.ZeroPadding2D(1)(inputs)))
    for number, (channels, stride) in enumerate(_BLOCKS):
        if stride == 2:
            x = layers.DepthwiseConv2D(3, strides=2)(layers.ZeroPadding2D(1)(x))
        else:
            x = layers.DepthwiseConv2D(3, padding="same")(x)
        x = layers.ReLU()(layers.Conv2D(channels, 1, name=f"pointwise_{number}")(layers.ReLU()(x)))
    return keras.Model(inputs, layers.Dense(128)(layers.GlobalAveragePooling2D()(x)), name="mobilenet")


def clear(model: Any, ratio: float) -> None:
    """Makes the smallest weights of each pointwise convolution zero."""
    for layer in model.layers:
        if layer.name.startswith("pointwise"):
            kernel = np.asarray(layer.kernel)
            layer.kernel.assign(np.where(np.abs(kernel) < np.quantile(np.abs(kernel), ratio), 0, kernel))


if __name__ == "__main__":
    main()

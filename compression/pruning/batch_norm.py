"""The statistics of BatchNormalization after a cut."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


def recalibrate_batch_norm(model: Any, batches: Iterable[NDArray[np.float32]]) -> None:
    """Sets the moving statistics of every BatchNormalization to their mean over batches of unchanged images.

    Statistics of the unpruned model misjudge the pruned one (Li et al. 2020, "EagleEye", section 3.3).

    Args:
        model: Keras 3 model; changed in place.
        batches: each `(N, ...)` as the model's input, normalized as for training; none leave the model as it is.
    """
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    try:
        for number, batch in enumerate(batches):
            for layer in layers:
                # moving = moving * n/(n+1) + batch * 1/(n+1) is the mean over the batches so far.
                layer.momentum = number / (number + 1)
            # Keras warns of an array for a model that was built of a list of one input.
            model([batch] if isinstance(model.input, list) else batch, training=True)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum

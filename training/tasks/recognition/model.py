"""Recognizers: a backbone and an embedding head, as Keras 3 functional models.

A recognizer takes `(N, size, size, 3)` float32 pixels as its backbone reads them and gives `(N, embedding_size)`
float32 embeddings, not normalized: TFLite's L2_NORMALIZATION is not delegated to XNNPACK, so the
device normalizes outside the graph.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from slimcam.deploy.common.messages import did_you_mean
from slimcam.deploy.common.vectors import unit_length
from slimcam.training.tasks.backbone import BackboneConfig, adopt_weights, features_of, is_whole_model, model_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

EMBEDDING = "embedding"
COSINES = "cosines"
FEATURES = "features"


@dataclass
class ModelConfig(BackboneConfig):
    """A recognizer; aligned 112x112 faces are resized to its input.

    Attributes:
        embedding_size: Dimensions of the embedding.
    """

    embedding_size: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_size < 1:
            raise ValueError(f"embedding_size is 1 or more; got {self.embedding_size}")


def build(config: ModelConfig) -> Any:
    """Builds the recognizer of a configuration.

    The head is global average pooling, a 1x1 convolution without bias and BatchNormalization: in that form the
    normalization folds into the convolution, which is quantized per channel (a Dense layer would be neither).

    Raises:
        ValueError: as for `features_of`, or weights of another recognizer.
        FileNotFoundError: a weights or model file that does not exist.
    """
    import keras

    features = features_of(config)
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(features.output)
    x = keras.layers.Conv2D(config.embedding_size, 1, use_bias=False, name="embedding_conv")(x)
    x = keras.layers.BatchNormalization(name="embedding_norm")(x)
    x = keras.layers.Flatten(name=EMBEDDING)(x)
    model = keras.Model(features.input, x, name=model_name(config.backbone))
    if is_whole_model(config.weights):
        adopt_weights(model, config.weights)
    return model


def with_classifier(
    model: Any,
    classes: int,
    kernel: NDArray[np.float32] | None = None,
    *,
    keras: Any,
    subcenters: int = 1,
    norms: bool = False,
) -> Any:
    """Adds cosines between the embedding and the nearest learned center of each identity, as a second output.

    Built of standard layers, so that it serves Keras 3 and tf_keras alike: a Dense layer whose columns are kept at
    unit length.

    Args:
        model: image -> embedding.
        classes: identities.
        kernel: `(embedding_size, subcenters * classes)` centers to start from, the first of all identities before the
            second of any; random ones if absent.
        keras: the module that `model` belongs to, `keras` or `tf_keras`.
        subcenters: centers of each identity.
        norms: whether the norm of the embedding follows the cosines.

    Returns:
        A model with the outputs `{"embedding": (N, E), "cosines": (N, classes)}`, or `(N, classes + 1)` with norms.

    Raises:
        ValueError: the kernel is of another number of centers.
    """
    shape = (int(model.outputs[0].shape[-1]), subcenters * classes)
    if kernel is not None:
        check_centers(kernel, *shape)
    embedding = model.outputs[0]
    unit = keras.layers.UnitNormalization(name="unit_embedding")(embedding)
    dense = keras.layers.Dense(
        shape[1],
        use_bias=False,
        kernel_initializer="random_normal",
        kernel_constraint=keras.constraints.UnitNorm(axis=0),
        name=COSINES,
    )
    cosines = dense(unit)
    if subcenters > 1:
        centers = keras.layers.Reshape((subcenters, classes), name="subcenters")(cosines)
        cosines = keras.layers.GlobalMaxPooling1D(name="nearest_centers")(centers)
    if norms:
        norm = keras.layers.Dot(axes=1, name="norm")([embedding, unit])
        cosines = keras.layers.Concatenate(name="cosines_and_norm")([cosines, norm])
    outputs = {EMBEDDING: embedding, COSINES: cosines}
    if kernel is None:
        rng = np.random.default_rng(classes)
        kernel = rng.normal(size=shape).astype(np.float32)
    dense.set_weights([unit_length(kernel.T).T])
    return keras.Model(model.inputs, outputs, name=f"{model.name}_classifier")


def check_centers(kernel: NDArray[np.float32], size: int, centers: int) -> None:
    """Raises a ValueError if the centers of the stage before, `(E, centers)`, are of another size or number."""
    if kernel.shape != (size, centers):
        raise ValueError(
            f"loss.subcenters: the stage before has {kernel.shape[1]:,} centers of {kernel.shape[0]} dimensions, this "
            f"one {centers:,} of {size}; take as many subcenters"
        )


def with_features(model: Any, layer: str, channels: int, *, keras: Any) -> Any:
    """Adds a 1x1 convolution of a layer's feature map as a further output.

    Args:
        model: image -> embedding, or what `with_classifier` gives.
        layer: its name.
        channels: of the map that it is to imitate.
        keras: the module that `model` belongs to.

    Returns:
        A model with the outputs `{"embedding": (N, E), "features": (N, h, w, channels)}` and those that it had.

    Raises:
        ValueError: no such layer, or it gives no feature map.
    """
    outputs = dict(model.output) if isinstance(model.output, dict) else {EMBEDDING: model.outputs[0]}
    names = [known.name for known in model.layers]
    if layer not in names:
        raise ValueError(f"loss.features_layer: {model.name} has no layer {layer!r}{did_you_mean(layer, names, 0.3)}")
    features = model.get_layer(layer).output
    if len(features.shape) != 4:
        raise ValueError(f"loss.features_layer: {layer} gives {features.shape}, not a map (N, height, width, channels)")
    outputs[FEATURES] = keras.layers.Conv2D(channels, 1, name=FEATURES)(features)
    return keras.Model(model.inputs, outputs, name=f"{model.name}_features")

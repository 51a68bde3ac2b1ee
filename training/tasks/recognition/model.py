"""Recognizers: a backbone and an embedding head, as Keras 3 functional models.

A recognizer takes `(N, size, size, 3)` float32 pixels normalized as `(pixel - PIXEL_MEAN) / PIXEL_SCALE` and gives
`(N, embedding_size)` float32 embeddings, not normalized: TFLite's L2_NORMALIZATION is not delegated to XNNPACK, so the
device normalizes outside the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from slimcam.deploy.common.messages import did_you_mean, first_line
from slimcam.deploy.common.result_key import file_content, in_key, source_digest
from slimcam.deploy.common.vectors import unit_length
from slimcam.training.tasks.recognition.backbones import of_file, own_builder, small_resnet

if TYPE_CHECKING:
    from numpy.typing import NDArray

BACKBONES: dict[str, Callable[..., Any]] = {"small_resnet": small_resnet}
"""Builders of our own by name."""

_EARLIER = {"training.backbones:small_resnet": "small_resnet"}
"""What builders of our own were called in configurations and bundles of earlier versions."""

EMBEDDING = "embedding"
COSINES = "cosines"
FEATURES = "features"


def import_builder(config: ModelConfig) -> None:
    """Imports the module of a builder of the user's, so that models with the layers that it registers can be read.

    Raises:
        ValueError: there is no such module or function.
    """
    if ":" in config.backbone and config.backbone not in _EARLIER:
        try:
            own_builder(config.backbone)
        except ValueError as error:
            raise ValueError(f"model.backbone {config.backbone}: {first_line(error)}") from error


def _is_file(backbone: str) -> bool:
    return backbone.endswith((".keras", ".h5"))


def _backbone_key(backbone: str) -> Any:
    """A file counts by its content, a builder of yours by its name and its source.

    Builders of ours and of Keras count by their name alone, that of earlier versions where it had another: what they
    build is part of the stages' versions.
    """
    if _is_file(backbone):
        return file_content(backbone)
    if ":" in backbone and backbone not in _EARLIER:
        module = backbone.partition(":")[0]
        source = None if module.startswith("slimcam.") else source_digest(module)
        return backbone if source is None else {"builder": backbone, "source": source}
    earlier = {name: before for before, name in _EARLIER.items()}
    return earlier.get(backbone, backbone)


def _weights_key(weights: str | None) -> Any:
    return weights if weights == "imagenet" else file_content(weights)


@dataclass
class ModelConfig:
    """A recognizer.

    Attributes:
        backbone: `small_resnet`; a name in `keras.applications`, for example `ResNet50`; a `.keras` file of a
            functional or sequential model that takes RGB images of `input_size`, or of any size, and gives features;
            or `module:function` of your own builder, called with `input_shape` and the options. Every stage imports
            that module, so that layers which it registers can be read again, and runs again when its source, or that
            of another module of its package, was edited.
        weights: `null` for random ones, a `.weights.h5` file of the backbone, `imagenet` for Keras' own download, or a
            `.keras` file of the whole recognizer, whose training goes on. Best are weights trained on RGB in [-1, 1],
            as these models are fed; Keras' ResNet and VGG were trained on other pixels (BGR, 0 to 255, mean taken off)
            and have more to unlearn.
        input_size: Height and width of the input, pixels; aligned 112x112 faces are resized to it.
        embedding_size: Dimensions of the embedding.
        options: Further arguments of the function that builds the backbone, for example `alpha` of MobileNetV2.
        path: A `.keras` file of any functional model, to be pruned alone: with `stages=[prune]`, of which nothing else
            above, no data and no training are part. `null` builds and trains a recognizer.
    """

    backbone: str = field(default="ResNet50", metadata=in_key(material=_backbone_key))
    weights: str | None = field(default=None, metadata=in_key(material=_weights_key))
    input_size: int = 112
    embedding_size: int = 512
    options: dict[str, Any] = field(default_factory=dict)
    path: str | None = field(default=None, metadata=in_key(material=file_content, unless_default=True))

    def __post_init__(self) -> None:
        if self.input_size < 1 or self.embedding_size < 1:
            raise ValueError(
                f"input_size and embedding_size are 1 or more; got {self.input_size}, {self.embedding_size}"
            )


def build(config: ModelConfig) -> Any:
    """Builds the recognizer of a configuration.

    The head is global average pooling, a 1x1 convolution without bias and BatchNormalization: in that form the
    normalization folds into the convolution, which is quantized per channel (a Dense layer would be neither).

    Raises:
        ValueError: unknown backbone, or weights that do not fit it.
        FileNotFoundError: a weights or model file that does not exist.
    """
    import keras

    if config.weights not in (None, "imagenet") and not Path(config.weights).is_file():
        raise FileNotFoundError(
            f"model.weights: no file {config.weights}; make or copy it there, "
            "or start with model.weights=null or imagenet"
        )
    features = _backbone(config)
    x = features.output
    if len(x.shape) != 4:
        raise ValueError(f"backbone {config.backbone} gives {x.shape}, not a feature map (N, height, width, channels)")
    x = keras.layers.GlobalAveragePooling2D(keepdims=True, name="pool")(x)
    x = keras.layers.Conv2D(config.embedding_size, 1, use_bias=False, name="embedding_conv")(x)
    x = keras.layers.BatchNormalization(name="embedding_norm")(x)
    x = keras.layers.Flatten(name=EMBEDDING)(x)
    model = keras.Model(features.input, x, name=_name(config.backbone))
    if _of_recognizer(config.weights):
        _train_on(model, config.weights)
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
    if kernel is not None and kernel.shape != shape:
        raise ValueError(
            f"loss.subcenters: the stage before has {kernel.shape[1]:,} centers of {kernel.shape[0]} dimensions, this "
            f"one {shape[1]:,} of {shape[0]}; take as many subcenters"
        )
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


def initial_weights(config: ModelConfig) -> str:
    """What the weights of a model were before its training, in a word or a file's name."""
    if config.weights is not None:
        name = config.weights.replace("\\", "/").rsplit("/", 1)[-1]
        return f"those of a recognizer trained before, {name}" if _of_recognizer(name) else name
    return f"those of {Path(config.backbone).name}" if _is_file(config.backbone) else "random"


def _of_recognizer(weights: str | None) -> TypeGuard[str]:
    return weights is not None and weights.endswith(".keras")


def _train_on(model: Any, file: str) -> None:
    """Gives a model, head and all, the weights of one of the same build."""
    import keras

    try:
        trained = keras.saving.load_model(file, compile=False).get_weights()
    except (ValueError, OSError) as error:
        raise ValueError(f"model.weights: {file} cannot be read as a Keras model; is it whole?") from error
    here = [value.shape for value in model.get_weights()]
    if [value.shape for value in trained] != here:
        raise ValueError(
            f"model.weights: {file} is not of the model that backbone, options and embedding_size describe"
        )
    model.set_weights(trained)


def _backbone(config: ModelConfig) -> Any:
    if _is_file(config.backbone):
        return of_file(config.backbone, config.input_size)
    weights = None if _of_recognizer(config.weights) else config.weights
    shape = (config.input_size, config.input_size, 3)
    try:
        own = BACKBONES.get(_EARLIER.get(config.backbone, config.backbone))
        if own is None and ":" in config.backbone:
            own = own_builder(config.backbone)
        if own is not None:
            model = own(input_shape=shape, **config.options)
            if weights is not None:
                model.load_weights(weights)
            return model
        builder = _application(config.backbone)
        return builder(include_top=False, weights=weights, input_shape=shape, **config.options)
    except (ValueError, TypeError) as error:
        raise ValueError(f"model.backbone {config.backbone}: {first_line(error)}") from error


def _application(name: str) -> Callable[..., Any]:
    import keras

    names = [known for known in dir(keras.applications) if known[0].isupper()]
    if name not in names:
        raise ValueError(f"keras.applications has none of that name{did_you_mean(name, [*BACKBONES, *names], 0.3)}")
    builder: Callable[..., Any] = getattr(keras.applications, name)
    return builder


def _name(backbone: str) -> str:
    own = backbone.rpartition(":")[2]
    return (Path(own).stem if _is_file(own) else own).lower()

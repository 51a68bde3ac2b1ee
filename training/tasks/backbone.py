"""Backbones: Keras 3 functional models from images to feature maps, by name, by file or by a function of one's own.

A backbone says what it reads of a pixel (`slimcam.deploy.inference.pixels`), and all that feeds the model goes by that:
training, calibration, and the bundle that a device gets.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from slimcam.deploy.common.choices import choose
from slimcam.deploy.common.messages import did_you_mean, first_line
from slimcam.deploy.common.own_code import code_key, find, of_target
from slimcam.deploy.common.result_key import NOT_KEY, file_content, in_key
from slimcam.deploy.inference.pixels import PixelFormat
from slimcam.training.tasks.own_backbones import mlp, of_file, small_resnet

BACKBONES: dict[str, Callable[..., Any]] = {"small_resnet": small_resnet, "mlp": mlp}
"""Builders of our own by name."""

_EARLIER = {"training.backbones:small_resnet": "small_resnet"}
"""What builders of our own were called in configurations and bundles of earlier versions."""

_RESCALING = ("ConvNeXt", "EfficientNet", "MobileNetV3")
"""What names in keras.applications begin with whose networks rescale pixels of 0 to 255 themselves."""

_GIVEN = ("include_top", "weights", "input_tensor", "input_shape", "pooling", "classes", "classifier_activation")
"""Arguments of builders that are no options: the task gives them, or has no use for them."""

_TRAINED_ON = {
    PixelFormat.CAFFE: ("ResNet50", "ResNet101", "ResNet152", "VGG16", "VGG19"),
    PixelFormat.TORCH: ("DenseNet121", "DenseNet169", "DenseNet201"),
}
"""What Keras' ImageNet weights of networks in keras.applications were trained on, unless -1 to 1."""


def _is_own(backbone: str) -> bool:
    """Whether a backbone is a function of the user's."""
    return ":" in backbone and backbone not in _EARLIER


def _is_file(backbone: str) -> bool:
    return backbone.endswith((".keras", ".h5"))


def _backbone_key(backbone: str) -> Any:
    """A file counts by its content, a builder of yours by its name and its source.

    Builders of ours and of Keras count by their name alone, that of earlier versions where it had another: what they
    build is part of the stages' versions.
    """
    if _is_file(backbone):
        return file_content(backbone)
    if _is_own(backbone):
        return code_key(backbone)
    earlier = {name: before for before, name in _EARLIER.items()}
    return earlier.get(backbone, backbone)


def _weights_key(weights: str | None) -> Any:
    return weights if weights == "imagenet" else file_content(weights)


def _as_ever(config: Any, _: Any) -> bool:
    """Whether the model reads -1 to 1, as all of them did in earlier versions."""
    return pixels_of(config) == PixelFormat.MINUS_ONE_ONE


@dataclass
class BackboneConfig:
    """A backbone.

    Attributes:
        backbone: `small_resnet` or `mlp`; a name in `keras.applications`, for example `ResNet50`; a `.keras` file of a
            functional or sequential model that takes RGB images of `input_size`, or of any size, and gives features;
            or `module:function` of your own builder, called with `input_shape` and the options. Every stage imports
            that module, so that layers which it registers can be read again, and runs again when its source, or that
            of another module of its package, was edited.
        _target_: Your own builder as Hydra has it, `package.module.function`, in place of `backbone`.
        weights: `null` for random ones, a `.weights.h5` file of the backbone, `imagenet` for Keras' own download, or a
            `.keras` file of the whole model that this configuration builds, whose training goes on.
        input_size: Height and width of the input, pixels.
        options: Further arguments of the function that builds the backbone, for example `alpha` of MobileNetV2. A
            mapping under a backbone's name, `{MobileNetV2: {alpha: 0.5}}`, is for that backbone alone.
        pixels: What the model reads of a pixel: `minus_one_one`, `zero_one`, `caffe`, `torch` or `raw` (see
            `slimcam.deploy.inference.pixels`). `null` takes what the backbone brings: `raw` for those of
            keras.applications that rescale pixels themselves (EfficientNet, MobileNetV3, ConvNeXt), with
            `weights=imagenet` what they were trained on, else `minus_one_one`.
    """

    backbone: str = field(default="ResNet50", metadata=in_key(material=_backbone_key))
    weights: str | None = field(default=None, metadata=in_key(material=_weights_key))
    input_size: int = 112
    options: dict[str, Any] = field(default_factory=dict)
    pixels: str | None = field(default=None, metadata=in_key(absent=_as_ever))
    # In the key it is `backbone`.
    _target_: str | None = field(default=None, metadata=NOT_KEY)

    def __post_init__(self) -> None:
        if self._target_ is not None:
            self.backbone = of_target(self._target_, "model._target_")
        if self.input_size < 1:
            raise ValueError(f"input_size is 1 or more; got {self.input_size}")
        if self.pixels is not None:
            choose("pixels", PixelFormat, self.pixels)
        self.options = _options_of(_own_name(self.backbone), self.options)


def pixels_of(config: BackboneConfig) -> PixelFormat:
    """What the model of a configuration reads of a pixel."""
    if config.pixels is not None:
        return PixelFormat(config.pixels)
    if config.backbone.startswith(_RESCALING) and config.options.get("include_preprocessing", True):
        return PixelFormat.RAW
    if config.weights == "imagenet":
        return next(
            (pixels for pixels, names in _TRAINED_ON.items() if config.backbone in names), PixelFormat.MINUS_ONE_ONE
        )
    return PixelFormat.MINUS_ONE_ONE


def features_of(config: BackboneConfig) -> Any:
    """Builds the backbone of a configuration: `(N, size, size, 3)` to feature maps `(N, h, w, C)`.

    Raises:
        ValueError: unknown backbone, weights that do not fit it, or one that rescales pixels itself, so that it has to
            be said which pixels it takes.
        FileNotFoundError: a weights or model file that does not exist.
    """
    if config.weights not in (None, "imagenet") and not Path(config.weights).is_file():
        raise FileNotFoundError(
            f"model.weights: no file {config.weights}; make or copy it there, "
            "or start with model.weights=null or imagenet"
        )
    features = _built(config)
    if len(features.output.shape) != 4:
        raise ValueError(
            f"backbone {config.backbone} gives {features.output.shape}, not a feature map (N, height, width, channels)"
        )
    rescales = rescaling_layer(features)
    own = _is_file(config.backbone) or _is_own(config.backbone)
    without = config.backbone.startswith(_RESCALING) and not config.options.get("include_preprocessing", True)
    if config.pixels is None and ((own and rescales is not None) or without):
        how = f"begins with a {rescales} layer" if rescales else "does not rescale pixels here"
        raise ValueError(
            f"model.backbone {config.backbone} {how}: say what pixels it takes, model.pixels=raw for 0 to 255, "
            "zero_one, minus_one_one, caffe or torch"
        )
    return features


def rescaling_layer(model: Any) -> str | None:
    """The kind of layer by which a model begins that rescales pixels; `None` where it begins otherwise."""
    first = next((layer for layer in model.layers if type(layer).__name__ != "InputLayer"), None)
    kind = type(first).__name__
    return kind if kind in ("Rescaling", "Normalization") else None


def import_builder(config: BackboneConfig) -> None:
    """Imports the module of a builder of the user's, so that models with the layers that it registers can be read.

    Raises:
        ValueError: there is no such module or function.
    """
    if _is_own(config.backbone):
        try:
            find(config.backbone)
        except ValueError as error:
            raise ValueError(f"model.backbone {config.backbone}: {first_line(error)}") from error


def adopt_weights(model: Any, file: str) -> None:
    """Gives a model the weights of a `.keras` file of the same build.

    Raises:
        ValueError: the file cannot be read, or holds another model.
    """
    import keras

    try:
        trained = keras.saving.load_model(file, compile=False).get_weights()
    except (ValueError, OSError) as error:
        raise ValueError(f"model.weights: {file} cannot be read as a Keras model; is it whole?") from error
    if [value.shape for value in trained] != [value.shape for value in model.get_weights()]:
        raise ValueError(
            f"model.weights: {file} is not of the model that the options of model describe; give those it was made with"
        )
    model.set_weights(trained)


def is_whole_model(weights: str | None) -> TypeGuard[str]:
    """Whether `model.weights` names a file of the whole model, and not of its backbone."""
    return weights is not None and weights.endswith(".keras")


def model_name(backbone: str) -> str:
    """The name of a model with this backbone."""
    own = backbone.rpartition(":")[2]
    return (Path(own).stem if _is_file(own) else own).lower()


def initial_weights(config: BackboneConfig) -> str:
    """What the weights of a model were before its training, in a word or a file's name."""
    if config.weights is not None:
        name = config.weights.replace("\\", "/").rsplit("/", 1)[-1]
        return f"those of a model trained before, {name}" if is_whole_model(name) else name
    return f"those of {Path(config.backbone).name}" if _is_file(config.backbone) else "random"


def _built(config: BackboneConfig) -> Any:
    if _is_file(config.backbone):
        return of_file(config.backbone, config.input_size)
    weights = None if is_whole_model(config.weights) else config.weights
    shape = (config.input_size, config.input_size, 3)
    try:
        own = BACKBONES.get(_own_name(config.backbone))
        if own is None and ":" in config.backbone:
            own = find(config.backbone)
        builder = own or _application(config.backbone)
        _check_options(builder, config.options)
        if own is None:
            return builder(include_top=False, weights=weights, input_shape=shape, **config.options)
        model = own(input_shape=shape, **config.options)
        if weights is not None:
            model.load_weights(weights)
        return model
    except (ValueError, TypeError) as error:
        raise ValueError(f"model.backbone {config.backbone}: {first_line(error)}") from error


def _own_name(backbone: str) -> str:
    return _EARLIER.get(backbone, backbone)


def _options_of(backbone: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options for one backbone: those for all, and those under its name, over which the former win."""
    scoped = {
        name: value
        for name, value in options.items()
        if isinstance(value, dict) and (name in BACKBONES or name[:1].isupper())
    }
    return {**scoped.get(backbone, {}), **{name: value for name, value in options.items() if name not in scoped}}


def _check_options(builder: Callable[..., Any], options: dict[str, Any]) -> None:
    taken = inspect.signature(builder).parameters
    if any(each.kind == inspect.Parameter.VAR_KEYWORD for each in taken.values()):
        return
    known = [name for name in taken if name not in _GIVEN]
    for name in options:
        if name not in known:
            raise ValueError(f"it has no option {name!r} (model.options){did_you_mean(name, known)}")


def _application(name: str) -> Callable[..., Any]:
    import keras

    names = [known for known in dir(keras.applications) if known[0].isupper()]
    if name not in names:
        raise ValueError(f"keras.applications has none of that name{did_you_mean(name, [*BACKBONES, *names], 0.3)}")
    builder: Callable[..., Any] = getattr(keras.applications, name)
    return builder

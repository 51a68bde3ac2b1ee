"""What a model file alone is compressed by. No framework is imported here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from slimcam.compression.model_files import require_model
from slimcam.compression.pruning.config import PruningRatioConfig, Target
from slimcam.compression.quantization.schemes import ALONE, Scheme, require_alone
from slimcam.deploy.common.choices import choose
from slimcam.deploy.common.result_key import KEY_FILE, in_key, path_content
from slimcam.deploy.inference.pixels import PixelFormat
from slimcam.pipeline.stages.config import QuantizeConfig

STAGE = "compress"


@dataclass
class ModelFileConfig:
    """A model file alone, for `slimcam compress`: no task, no training.

    Attributes:
        path: A `.keras` or `.h5` file of a functional or sequential model, or the folder of a SavedModel, which shows
            no layers and is quantized, not pruned.
        input_size: Height and width of a model that takes images of any size, pixels; `null` for all others.
        pixels: What the model reads of a pixel: `minus_one_one`, `zero_one`, `caffe`, `torch` or `raw` (see
            `slimcam.deploy.inference.pixels`). No file tells it, so that it has to be said where there are images
            (`data.root`); for random inputs `null` stands for `raw` where the model begins by rescaling pixels, else
            for `minus_one_one`.
    """

    path: str = field(default="???", metadata=in_key(material=path_content))
    input_size: int | None = None
    pixels: str | None = None

    def __post_init__(self) -> None:
        if self.input_size is not None and self.input_size < 1:
            raise ValueError(f"input_size is 1 or more; got {self.input_size}")
        if self.pixels is not None:
            choose("pixels", PixelFormat, self.pixels)


@dataclass
class FilePruneConfig(PruningRatioConfig):
    """Pruning of a model file alone, without fine-tuning; what it takes of the accuracy is not brought back.

    Attributes:
        ratio: Share of the target to remove, from 0 to below 1; of channels, of those in scope. At 0, with no budget,
            no ratios and no plan, nothing is pruned.
        plan: Plan file to apply (`plan.json` of an earlier result), in place of choosing channels.
    """

    ratio: float = 0.0
    plan: str | None = field(default=None, metadata=KEY_FILE)

    @property
    def asked(self) -> bool:
        """Whether anything is to be pruned."""
        return bool(self.ratio or self.ratios or self.budget is not None or self.plan is not None)


def check_file(config: Any) -> None:
    """What can be told of `slimcam compress` before anything is read.

    Raises:
        ValueError: The sections of the configuration do not go together.
    """
    if set(config.stages) != {STAGE}:
        raise ValueError("a model file has no stages of its own: slimcam compress model.path=FILE")
    if not isinstance(config.prune, FilePruneConfig) or not hasattr(config.data, "root"):
        raise ValueError("a model file has data=samples and prune=file: slimcam compress model.path=FILE")
    if config.data.root is not None and config.model.pixels is None:
        raise ValueError(
            "model.pixels is required with data.root, for no file tells it: say what the model reads of a pixel, "
            f"model.pixels=NAME with one of {', '.join(PixelFormat)}"
        )
    _refuse_pruning_without_effect(config.prune)
    scheme, root = Scheme(config.quantize.scheme), config.data.root
    try:
        require_alone(scheme, root)
    except ValueError as error:
        where = " (data.root=FOLDER model.pixels=NAME gives images)" if scheme in ALONE else ""
        raise ValueError(f"quantize: {error}{where}") from error
    _refuse_quantization_without_effect(config.quantize, scheme)
    try:
        require_model(Path(config.model.path))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"model.path: {error}") from error
    except ValueError as error:
        raise ValueError(f"model.path: {error}") from error


def refuse_words_without_effect(config: Any, words: Iterable[str]) -> None:
    """What can be told of the command line of `slimcam compress`, beside what `check_file` tells of its values.

    Args:
        config: the whole configuration.
        words: of the command line, as `train.fit.epochs=3`.

    Raises:
        ValueError: A word sets what a model file alone has no use for.
    """
    for word in words:
        name = word.lstrip("+~").partition("=")[0]
        section = name.partition(".")[0].partition("@")[0]
        if section in _UNUSED:
            raise ValueError(f"{name} has no effect: a model file alone {_UNUSED[section]}; leave it out")
        if section == "benchmark" and config.prune.target != Target.LATENCY:
            raise ValueError(f"{name} has no effect: nothing is measured but with prune.target=latency; leave it out")
        if name == "quantize.calibration_images" and config.data.root is None:
            raise ValueError(f"{name} has no effect without images; give them, data.root=FOLDER model.pixels=NAME")


_UNUSED = {
    "backend": "is always compressed on TensorFlow",
    "train": "is not trained",
    "search": "has no accuracy to search by",
    "convert": "becomes a file of its own, not a bundle",
    "evaluate": "is not evaluated",
}
"""Sections that `slimcam compress` does not read, and why."""


def _refuse_pruning_without_effect(prune: FilePruneConfig) -> None:
    if not prune.asked:
        given = _given(prune, [option.name for option in fields(prune)])
        if given:
            raise ValueError(
                f"prune.{given[0]}: say how much goes, prune.ratio=0.5, or what stays, prune.budget=2x; else nothing "
                "is pruned"
            )
    elif prune.plan is not None:
        given = _given(prune, [option.name for option in fields(prune) if option.name != "plan"])
        if given:
            raise ValueError(f"prune.{given[0]} has no effect: prune.plan names the channels; leave one of them out")


def _refuse_quantization_without_effect(quantize: QuantizeConfig, scheme: Scheme) -> None:
    reasons = dict.fromkeys(("teacher", "fit", "loss"), "a model file alone is not trained")
    reasons["accuracy_loss"] = "a model file alone has no accuracy"
    if not scheme.facts.integer:
        reasons["percentile"] = f"{scheme} has no ranges of activations"
    for name, reason in reasons.items():
        for given in _given(quantize, [name]):
            raise ValueError(f"quantize.{given} has no effect: {reason}; leave it out")


def _given(config: Any, names: Sequence[str]) -> list[str]:
    """Those of the options that are not as by default, as `name=value`, and sections as `name`."""
    default = type(config)()
    found = [(name, getattr(config, name)) for name in names if getattr(config, name) != getattr(default, name)]
    return [name if is_dataclass(value) else f"{name}={value}" for name, value in found]

"""What the compression stages are asked for. No framework is imported here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from slimcam.compression.pruning.config import (
    Criterion,
    MagnitudeConfig,
    Penalty,
    PruningRatioConfig,
    Schedule,
    Target,
)
from slimcam.compression.quantization.schemes import PERCENTILE, LayerPolicy, Scheme
from slimcam.deploy.common.choices import Choice, choose
from slimcam.deploy.common.files import file_sha256
from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT, file_content, in_key
from slimcam.deploy.inference.bundle import InputSpec, is_bundle, place_of
from slimcam.deploy.inference.manifest import MODEL
from slimcam.deploy.inference.pixels import value_range
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.recognition.config import Classification, LossConfig
from slimcam.training.tasks.task import Teacher


class Method(Choice):
    """What pruning removes: whole channels, or single weights, which become zero."""

    CHANNELS = "channels"
    MAGNITUDE = "magnitude"


class Weights(Choice):
    """What fine-tuning starts from, if not a converted network: what stays of the dense model, or random weights."""

    KEPT = "kept"
    RANDOM = "random"


def _distilled() -> LossConfig:
    return LossConfig(classification=Classification.NONE.value, distillation_weight=1.0)


@dataclass
class SparseConfig:
    """Training before the first cut that makes channels small.

    Attributes:
        penalty: `group_lasso` on the kernels of each channel, `bn_scale` on its scale of batch normalization, or
            `none`, which leaves this training out.
        strength: Weight of the penalty in the loss.
        epochs: Epochs of the sparse training, which are part of `fit.epochs`.
    """

    penalty: str = Penalty.NONE.value
    strength: float = 1e-4
    epochs: float = 1.0

    def __post_init__(self) -> None:
        choose("sparse.penalty", Penalty, self.penalty)
        if self.strength <= 0 or self.epochs <= 0:
            raise ValueError(f"sparse.strength and sparse.epochs are above 0; got {self.strength} and {self.epochs}")

    @property
    def taken(self) -> float:
        """Epochs that it takes."""
        return 0.0 if self.penalty == Penalty.NONE else self.epochs


def _converted(weights: str) -> Path | None:
    if weights in set(Weights):
        return None
    place = place_of(Path(weights))
    file = place / MODEL if is_bundle(place) else place
    return file if file.suffix == ".tflite" and file.is_file() else None


def _content_of_weights(weights: str) -> Any:
    file = _converted(weights)
    return weights if file is None else file_content(str(file))


def _contents_of_weights(weights: list[str]) -> Any:
    return [_content_of_weights(each) for each in weights]


@dataclass
class PruneConfig(PruningRatioConfig):
    """The prune stage: the pruning ratio, and fine-tuning.

    Attributes:
        method: What is removed: `channels`, or by `magnitude` single weights, which become zero (docs/pruning.md). Of
            the latter `ratio` and `ratios` are shares of each kernel's weights, and `keep` and `ratios` name layers;
            other options of channels mean nothing to it.
        magnitude: When, and in which pattern, single weights become zero.
        criterion_images: Number of training images that a criterion looks at, where it needs inputs, and `reconstruct`.
        plan: Plan file to apply (`plan.json` of an earlier result), in place of choosing channels.
        weights: Weights that fine-tuning starts from. `kept`: those of the channels that stay, after kernel-norm
            rescaling (`slimcam.compression.pruning.rescale`), so that learning rates mean what they do for initial
            ones. `random`: re-initialized ones in the pruned shape, the control that pruning has to beat at equal cost
            (Liu et al. 2019, "Rethinking the Value of Network Pruning"). Or those of a converted network of the same
            shape, which so goes on learning: a bundle's folder, `recognizer` or `detector` of those that come with
            slimcam, or a `.tflite` file.
        averaged_with: Further converted networks, trained on from the same weights as `weights`: fine-tuning starts
            from the mean of all (Wortsman et al. 2022, "Model soups").
        reconstruct: Whether layers that read removed channels get the weights by which they lose least, by least
            squares on training images (`slimcam.compression.pruning.reconstruct`), where weights are `kept`.
        steps: Number of cuts, each with fine-tuning of its own, and with the channels ranked again before each. The
            final shape is that of a single cut.
        schedule: Widths between the cuts: `geometric` keeps the same share at each, `linear` removes the same number,
            `polynomial` removes most at first.
        step_epochs: Epochs of the fine-tuning after each cut but the last, which gets what they leave of `fit.epochs`.
        sparse: Training before the first cut that makes channels small.
        teacher: Model that fine-tuning imitates: `dense` or `external` (that of `train.teacher`).
        bn_images: Number of training images by which the statistics of BatchNormalization are recalibrated, before and
            after fine-tuning; for each of `fit.validations`, 512 of them at the most. 0 keeps training's, or those
            that `reconstruct` takes.
        fit: Options of the fine-tuning; its epochs are those of all trainings of the stage together.
        loss: Loss of the fine-tuning, of the task's own kind.
    """

    method: str = field(default=Method.CHANNELS.value, metadata=KEY_UNLESS_DEFAULT)
    magnitude: MagnitudeConfig = field(default_factory=MagnitudeConfig, metadata=KEY_UNLESS_DEFAULT)
    criterion: str = Criterion.HESSIAN.value
    criterion_images: int = field(default=256, metadata=KEY_UNLESS_DEFAULT)
    plan: str | None = field(default=None, metadata=in_key(material=file_content, unless_default=True))
    weights: str = field(default=Weights.KEPT.value, metadata=in_key(material=_content_of_weights))
    averaged_with: list[str] = field(
        default_factory=list, metadata=in_key(material=_contents_of_weights, unless_default=True)
    )
    reconstruct: bool = field(default=True, metadata=KEY_UNLESS_DEFAULT)
    steps: int = 1
    schedule: str = field(default=Schedule.GEOMETRIC.value, metadata=KEY_UNLESS_DEFAULT)
    step_epochs: float = 1.0
    sparse: SparseConfig = field(default_factory=SparseConfig, metadata=KEY_UNLESS_DEFAULT)
    teacher: str = Teacher.DENSE.value
    bn_images: int = 2048
    fit: FitConfig = field(default_factory=FitConfig)
    loss: Any = field(default_factory=_distilled)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bn_images < 0:
            raise ValueError(f"bn_images must not be below 0; got {self.bn_images}")
        choose("schedule", Schedule, self.schedule)
        if self.criterion_images < 1:
            raise ValueError(f"criterion_images must be 1 or more; got {self.criterion_images}")
        if self.plan is not None and self.steps > 1:
            raise ValueError("a plan names the channels of one cut: set steps=1")
        if self.weights not in set(Weights) and self.converted is None:
            raise ValueError(
                f"weights is {', '.join(Weights)}, a bundle, or a .tflite file of a network to go on from; "
                f"{self.weights!r} is none of them"
            )
        if self.averaged_with and self.converted is None:
            raise ValueError(f"averaged_with needs another converted network in weights; got weights={self.weights}")
        for each in self.averaged_with:
            if _converted(each) is None:
                raise ValueError(f"averaged_with takes bundles and .tflite files; {each!r} is neither")
        if self.converted is not None and self.bn_images == 0:
            raise ValueError(f"weights={self.weights} measures statistics by bn_images training images: set it above 0")
        if self.steps < 1 or self.step_epochs <= 0:
            raise ValueError(f"steps must be 1 or more, step_epochs above 0; got {self.steps} and {self.step_epochs}")
        if self.weights != Weights.KEPT and self.steps > 1:
            raise ValueError(f"weights={self.weights} takes nothing over from one cut to the next: set steps=1")
        if self.weights != Weights.KEPT and self.sparse.taken:
            raise ValueError(f"weights={self.weights} takes nothing over from sparse training: set sparse.penalty=none")
        if self._last_epochs <= 0:
            raise ValueError(
                f"{self.steps} steps with step_epochs={self.step_epochs:g}{_and_sparse(self.sparse)} leave nothing of "
                f"fit.epochs={self.fit.epochs:g} for the last one: raise fit.epochs, or lower the others"
            )
        choose("teacher", Teacher, self.teacher)
        choose("method", Method, self.method)
        if self.method == Method.MAGNITUDE:
            self._refuse_channels()

    @property
    def converted(self) -> Path | None:
        """The `.tflite` file whose weights fine-tuning starts from, if it does."""
        return _converted(self.weights)

    @property
    def all_converted(self) -> list[Path]:
        """That file and those that its weights are averaged with."""
        return [file for file in map(_converted, [self.weights, *self.averaged_with]) if file is not None]

    @property
    def beginning(self) -> str:
        """`weights`; of converted networks their names and digests."""
        if self.converted is None:
            return self.weights
        given = zip([self.weights, *self.averaged_with], self.all_converted, strict=True)
        return " and ".join(f"{Path(name).stem} (sha256 {file_sha256(file)[:12]})" for name, file in given)

    def _refuse_channels(self) -> None:
        wanted = {
            "target": Target.CHANNELS.value,
            "budget": None,
            "plan": None,
            "weights": Weights.KEPT.value,
            "steps": 1,
        }
        given = [f"{name}={getattr(self, name)}" for name, none in wanted.items() if getattr(self, name) != none]
        if self.sparse.taken:
            given.append(f"sparse.penalty={self.sparse.penalty}")
        if given:
            raise ValueError(
                f"method=magnitude removes no channels, so that {', '.join(given)} cannot be had: give the share of "
                "weights by ratio, or set method=channels"
            )
        self.fit.refuse_tf_keras("magnitude pruning")

    @property
    def fine_tuning(self) -> list[FitConfig]:
        """The fine-tuning after each cut."""
        epochs = [self.step_epochs] * (self.steps - 1) + [self._last_epochs]
        return [replace(self.fit, epochs=number) for number in epochs]

    @property
    def _last_epochs(self) -> float:
        return self.fit.epochs - (self.steps - 1) * self.step_epochs - self.sparse.taken


def _and_sparse(sparse: SparseConfig) -> str:
    return f" and sparse.epochs={sparse.epochs:g}" if sparse.taken else ""


@dataclass
class QuantizeConfig:
    """The quantize stage. Patterns of names are those of layers of the pruned model, as `conv4_*`, `first` or `last`.

    Attributes:
        scheme: `qat_int8`, trained; or without training `ptq_int8`, `mixed`, `ptq_int16x8`, `dynamic`, `weights_int8`,
            `weights_int4`, `float16` or `none`; docs/quantization.md tells them apart.
        layers: What layers are that are not as the scheme says, by pattern: `int8`, `int8 weights` or `float`. With
            `qat_int8` the weights of a `float` layer stay float, its input and output int8.
        learning_rates: Factors of the learning rate by pattern; 0 freezes.
        input_range: Smallest and largest value of the input; `null` takes what the model's pixels span, so that the
            int8 input is the pixel less 128.
        percentile: Percentage of the calibration images whose activations a range holds at either end; outlier images
            are clipped (docs/recipe.md).
        accuracy_loss: For `mixed`, percentage points of accuracy that may be lost against the dense model, on data
            that is held out.
        teacher: Model that is imitated: `dense` or `external` (that of `train.teacher`).
        calibration_images: Number of training images by which channels are equalized (`compression.equalize`), and
            from which the ranges of activations are then taken, once.
        fit: Options of the training; a learning rate near a hundredth of the dense model's suits.
        loss: Loss of the training, of the task's own kind.
    """

    scheme: str = field(default=Scheme.QAT_INT8.value, metadata=KEY_UNLESS_DEFAULT)
    layers: dict[str, str] = field(default_factory=dict, metadata=KEY_UNLESS_DEFAULT)
    learning_rates: dict[str, float] = field(default_factory=dict, metadata=KEY_UNLESS_DEFAULT)
    input_range: list[float] | None = field(default=None, metadata=KEY_UNLESS_DEFAULT)
    percentile: float = field(default=PERCENTILE, metadata=KEY_UNLESS_DEFAULT)
    accuracy_loss: float | None = field(default=None, metadata=KEY_UNLESS_DEFAULT)
    teacher: str = Teacher.DENSE.value
    calibration_images: int = 512
    fit: FitConfig = field(default_factory=FitConfig)
    loss: Any = field(default_factory=_distilled)

    def __post_init__(self) -> None:
        choose("teacher", Teacher, self.teacher)
        if self.calibration_images < 1:
            raise ValueError(f"calibration_images must be 1 or more; got {self.calibration_images}")
        scheme = choose("scheme", Scheme, self.scheme)
        for pattern, policy in self.layers.items():
            if choose(f"layers.{pattern}", LayerPolicy, policy) == LayerPolicy.INT8_WEIGHTS and scheme.facts.trains:
                raise ValueError(f"layers.{pattern}: {scheme} has layers that are int8 or float, no '{policy}'")
        if self.layers and scheme == Scheme.NONE:
            raise ValueError("layers: nothing is quantized with scheme=none; leave them out")
        if self.learning_rates and not scheme.facts.trains:
            raise ValueError(f"learning_rates: nothing is trained with scheme={scheme}; leave them out")
        if scheme.facts.trains:
            self.fit.refuse_tf_keras("quantization-aware training")
        if any(factor < 0 for factor in self.learning_rates.values()):
            raise ValueError(f"learning_rates are factors from 0 on; got {dict(self.learning_rates)}")
        if self.input_range is not None and not (
            len(self.input_range) == 2 and self.input_range[0] <= 0 < self.input_range[1]
        ):
            raise ValueError(f"input_range is a value up to 0 and one above it; got {list(self.input_range)}")
        if not 50 < self.percentile <= 100:
            raise ValueError(f"percentile is above 50, and 100 at most; got {self.percentile}")
        if scheme == Scheme.MIXED and (self.accuracy_loss is None or self.accuracy_loss < 0):
            raise ValueError(
                f"scheme=mixed needs accuracy_loss, the points that may be lost, 0 or more; got {self.accuracy_loss}"
            )

    def spanned(self, spec: InputSpec) -> tuple[float, float]:
        """The smallest and the largest value of the int8 input of a model that reads such pixels."""
        if self.input_range is None:
            return value_range(spec)
        low, high = self.input_range
        return low, high


def untrained_words(config: QuantizeConfig, words: Iterable[str]) -> list[str]:
    """A line for each word of the command line that sets an option of `quantize` which its scheme does not read.

    Experiments set options of all schemes, so that only what is given beside them is told of.

    Args:
        config: the section.
        words: of the command line, as `quantize.fit.epochs=1`.
    """
    facts = Scheme(config.scheme).facts
    unread = [*(() if facts.trains else ("fit", "loss", "teacher")), *(() if facts.integer else ("percentile",))]
    unread += [] if config.scheme == Scheme.MIXED else ["accuracy_loss"]
    names = [word.lstrip("+~").partition("=")[0] for word in words]
    return [
        f"{name} has no effect with quantize.scheme={config.scheme} ({facts.text})"
        for name in names
        if name.startswith("quantize.") and name.split(".")[1] in unread
    ]


@dataclass
class ConvertConfig:
    """The convert stage.

    Attributes:
        license: License of the resulting model, given what it was trained on; written into bundle and model card.
        credits: Lines for the model card: the sets that the model was trained on, where they are from, and their terms.
        fidelity_images: Number of test images on which the int8 file is compared with the model that it was made of.
        sparse: Whether the pruned float file stores kernels without their zeros, for `prune.method=magnitude`.
    """

    license: str = "not stated; it depends on the terms of the faces that the model was trained on"
    credits: list[str] = field(default_factory=list, metadata=KEY_UNLESS_DEFAULT)
    fidelity_images: int = 64
    sparse: bool = field(default=False, metadata=KEY_UNLESS_DEFAULT)

    def __post_init__(self) -> None:
        if self.fidelity_images < 1:
            raise ValueError(f"fidelity_images must be 1 or more; got {self.fidelity_images}")


@dataclass
class GatesConfig:
    """What the compressed model must reach; `null` leaves a gate out.

    Attributes:
        accuracy: Least accuracy of the compressed model, percent (of a detector: recall).
        accuracy_loss: percentage points of accuracy (of a detector: recall) that may be lost against the dense model.
        size_mb: Largest size of the `.tflite` file, in units of a million bytes.
        latency_ratio: the dense float model's p50 over the compressed model's, at the least.
        memory_mb: peak resident memory that the model adds to the process, in units of a million bytes.
        delegated: share of the operators that XNNPACK executes, at the least; of the schemes that it has kernels for
            (`SchemeFacts.delegated`), the others are not held to it.
        fidelity: mean cosine of the quantized file's outputs with those of the model it was converted from.
    """

    accuracy_loss: float | None = 2.0
    size_mb: float | None = None
    latency_ratio: float | None = None
    memory_mb: float | None = None
    delegated: float | None = 1.0
    fidelity: float | None = 0.99
    accuracy: float | None = field(default=None, metadata=KEY_UNLESS_DEFAULT)


@dataclass
class EvaluateConfig:
    """The evaluate stage.

    Attributes:
        rates: Rates of errors for which thresholds are found and reported where the data support it: false-accept rates
            of a recognizer, false faces an image of a detector, shares of wrong answers of a classifier.
        threads: Number of threads of the interpreter.
    """

    rates: list[float] = field(default_factory=lambda: [0.1, 0.01, 0.001, 0.0001])
    threads: int = 2
    gates: GatesConfig = field(default_factory=GatesConfig)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more; got {self.threads}")
        if not all(rate > 0 for rate in self.rates):
            raise ValueError(f"rates of errors are above 0; got {list(self.rates)}")

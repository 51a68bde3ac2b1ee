"""What the compression stages are asked for. No framework is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from compression.pruning.config import CRITERIA, BudgetConfig
from training.fit.config import FitConfig
from training.tasks.recognition.config import LossConfig

TEACHERS = ("dense", "external")
WEIGHTS = ("kept", "random")


def _distilled() -> LossConfig:
    return LossConfig(classification="none", distillation_weight=1.0)


def _check_teacher(teacher: str) -> None:
    if teacher not in TEACHERS:
        raise ValueError(f"teacher is dense (the model before pruning) or external (train.teacher); got {teacher!r}")


@dataclass
class PruneConfig(BudgetConfig):
    """The prune stage: the budget, and the recovery.

    Attributes:
        criterion: importance of a channel, `l1`, `l2` or `bn_scale`.
        weights: `kept` goes on with the weights of the channels that stay, kernels before BatchNormalization as long as
            fresh ones (`compression.pruning.rescale`), so that learning rates mean what they mean for these; `random`
            takes nothing over but the shape and draws all weights anew: the control that pruning has to beat at equal
            cost (Liu et al. 2019, "Rethinking the Value of Network Pruning").
        steps: cuts on the way to the budget, each with a recovery of its own, and the channels judged anew before
            each. The shape is that of a single cut.
        step_epochs: of the recovery after each cut before the last, which gets what they leave of `fit.epochs`.
        teacher: whom the recovery imitates: `dense` or `external` (that of `train.teacher`).
        bn_images: training images from which the statistics of BatchNormalization are taken anew.
        fit, loss: of the recovery, the loss of the task's own kind; its epochs are those of all steps together.
    """

    criterion: str = "l2"
    weights: str = "kept"
    steps: int = 1
    step_epochs: float = 1.0
    teacher: str = "dense"
    bn_images: int = 2048
    fit: FitConfig = field(default_factory=FitConfig)
    loss: Any = field(default_factory=_distilled)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bn_images < 0:
            raise ValueError(f"bn_images must not be below 0; got {self.bn_images}")
        if self.criterion not in CRITERIA:
            raise ValueError(f"criterion is one of {', '.join(CRITERIA)}; got {self.criterion!r}")
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights is one of {', '.join(WEIGHTS)}; got {self.weights!r}")
        if self.steps < 1 or self.step_epochs <= 0:
            raise ValueError(f"steps must be 1 or more, step_epochs above 0; got {self.steps} and {self.step_epochs}")
        if self.weights == "random" and self.steps > 1:
            raise ValueError("weights=random takes nothing over from one cut to the next: set steps=1")
        if self._last_epochs <= 0:
            raise ValueError(
                f"{self.steps} steps with step_epochs={self.step_epochs:g} leave nothing of fit.epochs="
                f"{self.fit.epochs:g} for the last one: raise fit.epochs, or lower steps or step_epochs"
            )
        _check_teacher(self.teacher)

    @property
    def recoveries(self) -> list[FitConfig]:
        """The recovery after each cut."""
        epochs = [self.step_epochs] * (self.steps - 1) + [self._last_epochs]
        return [replace(self.fit, epochs=number) for number in epochs]

    @property
    def _last_epochs(self) -> float:
        return self.fit.epochs - (self.steps - 1) * self.step_epochs


@dataclass
class QuantizeConfig:
    """The quantize stage: quantisation-aware training.

    Attributes:
        teacher: who is imitated: `dense` or `external` (that of `train.teacher`).
        calibration_images: training images by which the channels' ranges are evened out
            (`compression.quantization.equalize`), and from which the ranges of activations are taken then, once.
        fit, loss: of the training, the loss of the task's own kind; a learning rate near a hundredth of the dense
            model's does.
    """

    teacher: str = "dense"
    calibration_images: int = 512
    fit: FitConfig = field(default_factory=FitConfig)
    loss: Any = field(default_factory=_distilled)

    def __post_init__(self) -> None:
        _check_teacher(self.teacher)
        if self.calibration_images < 1:
            raise ValueError(f"calibration_images must be 1 or more; got {self.calibration_images}")


@dataclass
class ConvertConfig:
    """The convert stage.

    Attributes:
        license: of the resulting model, given what it was trained on; written into bundle and model card.
        fidelity_images: test images on which the int8 file is compared with the model that it was made of.
    """

    license: str = "not stated; it depends on the terms of the faces that the model was trained on"
    fidelity_images: int = 64

    def __post_init__(self) -> None:
        if self.fidelity_images < 1:
            raise ValueError(f"fidelity_images must be 1 or more; got {self.fidelity_images}")


@dataclass
class GatesConfig:
    """What the compressed model must reach; `null` leaves a gate out.

    Attributes:
        accuracy_loss: percentage points of accuracy (of a detector: recall) that may be lost against the dense model.
        size_mb: of the `.tflite` file, in units of a million bytes.
        latency_ratio: the dense float model's p50 over the compressed model's, at the least.
        memory_mb: peak resident memory that the model adds to the process, in units of a million bytes.
        delegated: share of the operators that XNNPACK executes, at the least.
        fidelity: mean cosine of the int8 file's outputs with those of the model it was converted from.
    """

    accuracy_loss: float | None = 2.0
    size_mb: float | None = 9.2
    latency_ratio: float | None = None
    memory_mb: float | None = None
    delegated: float | None = 1.0
    fidelity: float | None = 0.99


@dataclass
class EvaluateConfig:
    """The evaluate stage.

    Attributes:
        rates: of errors, for which thresholds and what is found with them are reported where the data support it:
            false-accept rates of a recognizer, false faces an image of a detector.
        threads: of the interpreter.
    """

    rates: list[float] = field(default_factory=lambda: [0.1, 0.01, 0.001, 0.0001])
    threads: int = 2
    gates: GatesConfig = field(default_factory=GatesConfig)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more; got {self.threads}")
        if not all(rate > 0 for rate in self.rates):
            raise ValueError(f"rates of errors are above 0; got {list(self.rates)}")

"""What a classifier is and how it learns. No framework is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT, NOT_KEY
from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.fit.config import FitConfig, check, phases_of
from slimcam.training.tasks.backbone import BackboneConfig


@dataclass
class ClassifierConfig(BackboneConfig):
    """A classifier: a backbone, global average pooling and a logit for each class of the data.

    Attributes:
        dropout: Share of the pooled features that training drops.
    """

    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check(0 <= self.dropout < 1, f"dropout is a share, 0 to below 1; got {self.dropout}")


@dataclass
class ClassifierLossConfig:
    """The loss of a classifier: cross-entropy with the labels, distillation from the dense model, or both.

    Attributes:
        label_smoothing: Share of the label that is spread over all classes (Szegedy et al. 2016, section 7).
        classification_weight: Weight of the cross-entropy.
        distillation_weight: Weight of the distillation of the dense model's logits (Hinton et al. 2015); for the stages
            after training.
        temperature: Divisor of both models' logits in the distillation.
    """

    label_smoothing: float = 0.1
    classification_weight: float = 1.0
    distillation_weight: float = 0.0
    temperature: float = 2.0

    def __post_init__(self) -> None:
        check(0 <= self.label_smoothing < 1, f"label_smoothing is 0 to below 1; got {self.label_smoothing}")
        check(self.temperature > 0, f"temperature must be above 0; got {self.temperature}")
        weights = self.classification_weight, self.distillation_weight
        check(
            min(weights) >= 0 and max(weights) > 0, f"weights of losses are 0 or more, one of them above; got {weights}"
        )


@dataclass
class ClassifierTrainConfig:
    """The train stage of a classifier.

    Attributes:
        fit: Optimizer and schedule.
        loss: Losses and their weights.
        augment: Augmentation of training images; take `flip` to 0 where a mirror image is of another class.
        seed: Seed of initial weights, order and augmentation.
        workers: Threads that read and augment images; 0 takes one for each processor.
        balance: Exponent of the sampling by class, 0 to 1: 0 takes each image once an epoch, 1 samples all classes
            equally.
        phases: Fits that run before `fit`, each with the options that it gives and otherwise those of `fit`.
        bn_images: Number of training images by which the statistics of BatchNormalization are recalibrated, at the end
            and before each validation: the moving ones of a short training are far off where a network averages over
            thousands of steps, as Keras' MobileNetV2 does. 0 keeps the moving ones.
    """

    fit: FitConfig = field(default_factory=FitConfig)
    loss: ClassifierLossConfig = field(default_factory=ClassifierLossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    workers: int = field(default=0, metadata=NOT_KEY)
    balance: float = 0.0
    phases: list[dict[str, Any]] = field(default_factory=list, metadata=KEY_UNLESS_DEFAULT)
    bn_images: int = 1024

    @property
    def fits(self) -> list[FitConfig]:
        """The fit of each phase, `fit` as the last."""
        return phases_of(self.fit, self.phases)

    def __post_init__(self) -> None:
        phases_of(self.fit, self.phases)
        check(0 <= self.balance <= 1, f"balance is 0 to 1; got {self.balance}")
        check(
            min(self.seed, self.workers) >= 0, f"seed and workers must not be below 0; got {self.seed}, {self.workers}"
        )
        check(
            self.augment.mixup == self.augment.elastic == 0,
            "augment.mixup and elastic are for the distillation of embeddings; set them to 0 for a classifier",
        )
        check(
            self.loss.distillation_weight == 0,
            "train.loss.distillation_weight: there is no dense model to imitate before it is trained; set it to 0",
        )

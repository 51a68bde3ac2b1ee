"""What a detector is and how it learns. No framework is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT, NOT_KEY
from slimcam.training.fit.config import FitConfig, phases_of


@dataclass
class DetectorConfig:
    """The network: convolutions with shortcuts in five halvings, and a head on each of the last three.

    Attributes:
        height: Height of the input, pixels.
        width: Width of the input, pixels.
        channels: Channels of the feature maps at strides 2, 4, 8, 16 and 32.
        blocks: Number of residual convolutions at strides 4, 8, 16 and 32.
        top_down: Whether what the coarser maps know of a face's surroundings is added to the finer ones (Lin et al.
            2017, "Feature Pyramid Networks").
    """

    height: int = 240
    width: int = 320
    channels: list[int] = field(default_factory=lambda: [16, 32, 64, 96, 128])
    blocks: list[int] = field(default_factory=lambda: [1, 2, 2, 2])
    top_down: bool = field(default=False, metadata=KEY_UNLESS_DEFAULT)

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 32:
            raise ValueError(f"model height and width are 32 or more; got {self.height} and {self.width}")
        if len(self.channels) != 5 or min(self.channels) < 1 or len(self.blocks) != 4 or min(self.blocks) < 0:
            raise ValueError(
                f"model channels are 5 numbers from 1 on, blocks 4 from 0 on; got {list(self.channels)} and "
                f"{list(self.blocks)}"
            )


@dataclass
class DetectorLossConfig:
    """The loss of a detector.

    Attributes:
        points_weight: Weight of the loss of size and points; that of the score has weight 1.
        distillation_weight: Weight of the distillation from the dense model; for the stages after it.
    """

    points_weight: float = 2.0
    distillation_weight: float = 0.0

    def __post_init__(self) -> None:
        if min(self.points_weight, self.distillation_weight) < 0:
            raise ValueError(
                f"weights of losses must not be below 0; got {self.points_weight} and {self.distillation_weight}"
            )


@dataclass
class DetectorTrainConfig:
    """The train stage of a detector.

    Attributes:
        fit: Optimizer and schedule.
        loss: Weights of the parts of the loss.
        phases: Fits that run before `fit`, each with the options that it gives and otherwise those of `fit`.
        epoch_scenes: Number of scenes that count as an epoch; there is no end of new ones.
        seed: Seed of the initial weights.
        workers: Threads that compose scenes; 0 takes one for each processor.
        bn_images: Number of training images by which the statistics of BatchNormalization are recalibrated, at the end
            and before each validation: the moving ones of a short training are far off where a network averages over
            thousands of steps, as Keras' MobileNetV2 does. 0 keeps the moving ones.
    """

    fit: FitConfig = field(default_factory=FitConfig)
    loss: DetectorLossConfig = field(default_factory=DetectorLossConfig)
    epoch_scenes: int = 10_000
    seed: int = 0
    workers: int = field(default=0, metadata=NOT_KEY)
    phases: list[dict[str, Any]] = field(default_factory=list, metadata=KEY_UNLESS_DEFAULT)
    bn_images: int = field(default=0, metadata=KEY_UNLESS_DEFAULT)

    @property
    def fits(self) -> list[FitConfig]:
        """The fit of each phase, `fit` as the last."""
        return phases_of(self.fit, self.phases)

    def __post_init__(self) -> None:
        phases_of(self.fit, self.phases)
        if min(self.seed, self.workers) < 0 or self.epoch_scenes < 1:
            raise ValueError(
                f"seed and workers must not be below 0, epoch_scenes not below 1; got {self.seed}, {self.workers} and "
                f"{self.epoch_scenes}"
            )

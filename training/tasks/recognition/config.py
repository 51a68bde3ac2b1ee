"""How a model learns: the optimizer and its schedule, the losses, the teacher. No framework is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from slimcam.deploy.common.choices import Choice, choose
from slimcam.deploy.common.result_key import KEY_FILE, KEY_UNLESS_DEFAULT, NOT_KEY, in_key
from slimcam.deploy.inference.bundle import InputSpec
from slimcam.training.data.recognition.augment import AugmentConfig
from slimcam.training.fit.config import FitConfig, check, phases_of


class Classification(Choice):
    """Loss over the training identities: none, softmax of scaled cosines, or with a margin of the names' papers."""

    NONE = "none"
    SOFTMAX = "softmax"
    COSFACE = "cosface"
    ARCFACE = "arcface"
    ADAFACE = "adaface"


class Color(Choice):
    """Order of the channels of a teacher's images."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass
class LossConfig:
    """The loss: classification of the training identities, distillation from a teacher, or both.

    Attributes:
        classification: `none`, `softmax` (of scaled cosines), `cosface`, `arcface` or `adaface`.
        margin: Margin on the cosine (CosFace), on the angle in radians (ArcFace), or between both by the quality of the
            image (AdaFace; 0.4 in its paper).
        subcenters: Centers of each identity, of which the nearest counts: images under a wrong name gather at another
            than the right ones (Deng et al. 2020, "Sub-center ArcFace"; 3 there). 1 is the usual classifier.
        sample: Share of the identities that a step tells apart, those of its batch and others at random, for hundreds
            of thousands of them (An et al. 2022, "Partial FC"; 0.1 there). Keras 3 only.
        scale: Factor of the cosines before the softmax.
        classification_weight: Weight of the classification loss.
        distillation_weight: Weight of the embedding distillation; 0 needs no teacher.
        features_weight: Weight of the distillation of the teacher's feature map (`train.teacher.features`).
        features_layer: Layer of the student from which a 1x1 convolution, dropped after training, regresses the
            teacher's feature map (Romero et al. 2015, "FitNets"); best one whose map has the same size. Keras 3 only.
    """

    classification: str = Classification.COSFACE.value
    margin: float = 0.35
    scale: float = 32.0
    classification_weight: float = 1.0
    distillation_weight: float = 0.0
    features_weight: float = 0.0
    features_layer: str = "conv4_block6_out"
    subcenters: int = field(default=1, metadata=KEY_UNLESS_DEFAULT)
    sample: float = field(default=1.0, metadata=KEY_UNLESS_DEFAULT)

    def __post_init__(self) -> None:
        choose("classification", Classification, self.classification)
        check(self.subcenters >= 1, f"loss.subcenters is 1 or more; got {self.subcenters}")
        check(0 < self.sample <= 1, f"loss.sample is a share, above 0 and up to 1; got {self.sample}")
        check(
            min(self.classification_weight, self.distillation_weight, self.features_weight) >= 0,
            f"weights of losses must not be below 0; got {self.classification_weight}, {self.distillation_weight} and "
            f"{self.features_weight}",
        )
        check(
            self.features_weight == 0 or self.distillation_weight > 0,
            "loss.features_weight goes with the distillation of the embedding: give loss.distillation_weight",
        )
        check(
            self.classifies or self.distillation_weight > 0,
            "no loss: give a classification or a distillation_weight above 0",
        )

    @property
    def norms(self) -> bool:
        """Whether the classification looks at the norms of embeddings too."""
        return self.classification == Classification.ADAFACE

    @property
    def classifies(self) -> bool:
        return self.classification != Classification.NONE and self.classification_weight > 0


@dataclass
class TeacherModelConfig:
    """A recognizer as a `.tflite` or `.onnx` file.

    Attributes:
        path: File of the model; none means no teacher.
        crop: Part of the 112x112 face that the teacher sees, as `[top, left, height, width]`.
        mean: Pixel value that becomes 0: the teacher takes `(pixel - mean) / scale`.
        scale: Divisor of the pixels.
        color: Order of the channels, `rgb` or `bgr`.
        weight: Weight of the cosines of this teacher among those of several.
    """

    path: str | None = field(default=None, metadata=KEY_FILE)
    crop: list[int] = field(default_factory=lambda: [0, 0, 112, 112])
    mean: float = 127.5
    scale: float = 128.0
    color: str = Color.RGB.value
    # That of a single teacher changes nothing, and results of earlier versions, which knew no other, are made without.
    weight: float = field(default=1.0, metadata=in_key(absent=lambda teacher, _: not getattr(teacher, "others", True)))

    def __post_init__(self) -> None:
        check(len(self.crop) == 4, f"teacher crop is [top, left, height, width]; got {list(self.crop)}")
        top, left, height, width = self.crop
        inside = min(top, left) >= 0 and min(height, width) > 0 and top + height <= 112 and left + width <= 112
        check(inside, f"teacher crop {list(self.crop)} does not lie inside the 112x112 face")
        check(self.scale > 0, f"teacher scale must be above 0, since pixels are divided by it; got {self.scale}")
        check(self.weight > 0, f"teacher weight must be above 0; got {self.weight}")
        choose("teacher color", Color, self.color)

    @property
    def input(self) -> InputSpec:
        """What the model reads of a pixel."""
        return InputSpec(mean=self.mean, scale=self.scale, order=self.color)


@dataclass
class TeacherConfig(TeacherModelConfig):
    """A recognizer whose embeddings are imitated, or several.

    The embeddings of several are concatenated, each of unit length times the root of its weight's share, so that a
    cosine is the weighted mean of theirs. What has more dimensions than the student's embedding is projected to as many
    by a principal component analysis of the training faces, which keeps cosines as well as a projection can.

    Attributes:
        others: Further teachers beside the one that `path` names.
        flip: Whether the target is the mean of the embeddings of a face and of its mirror image.
        views: Number of augmented views of each face whose targets are computed and cached, after which views repeat:
            the teacher sees the same view as the student (Beyer et al. 2022, "A good teacher is patient and
            consistent"). 0 shows it each face once and unaugmented, and all augmentations have that target.
        features: Name of a tensor inside the `.onnx` file that `path` names, a feature map to distill as well (Romero
            et al. 2015, "FitNets"), with `loss.features_weight`.
    """

    others: list[TeacherModelConfig] = field(default_factory=list, metadata=KEY_UNLESS_DEFAULT)
    flip: bool = True
    views: int = 0
    features: str | None = None

    @property
    def models(self) -> list[TeacherModelConfig]:
        """All the teachers; none if `path` is none."""
        return [] if self.path is None else [self, *self.others]

    def __post_init__(self) -> None:
        super().__post_init__()
        check(
            self.path is not None or not self.others,
            "teacher.others are beside the teacher of teacher.path, which is none: give it",
        )
        check(all(other.path is not None for other in self.others), "each of teacher.others needs a path")
        check(self.views >= 0, f"teacher views must not be below 0; got {self.views}")
        check(
            self.features is None or (self.views > 0 and not self.flip),
            "teacher.features belong to the very view: give teacher.views, and teacher.flip=false",
        )


@dataclass
class TrainConfig:
    """The train stage.

    Attributes:
        fit: Optimizer and schedule.
        loss: Losses and their weights.
        teacher: Model to distill from.
        augment: Augmentation of training images.
        seed: Seed of initial weights, order and augmentation.
        workers: Threads that read and augment images; 0 takes one for each processor.
        balance: Exponent of the sampling by person, 0 to 1: an image is sampled with probability `n ** -balance`, where
            `n` is the number of images of its person. 0 takes each image once an epoch, 1 samples all people equally
            (0.5: Mahajan et al. 2018, section 2.2).
        phases: Fits that run before `fit`, one after the other: each has an optimizer and a schedule of its own, the
            options that it gives and otherwise those of `fit`, and goes on from the weights of the one before. For
            example `[{epochs: 10, sizes: [64, 96, 112]}]`.
        bn_images: Number of training images by which the statistics of BatchNormalization are recalibrated, at the end
            and before each validation: the moving ones of a short training are far off where a network averages over
            thousands of steps, as Keras' MobileNetV2 does. 0 keeps the moving ones.
    """

    fit: FitConfig = field(default_factory=FitConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    workers: int = field(default=0, metadata=NOT_KEY)
    balance: float = 0.0
    phases: list[dict[str, Any]] = field(default_factory=list, metadata=KEY_UNLESS_DEFAULT)
    bn_images: int = field(default=0, metadata=KEY_UNLESS_DEFAULT)

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
            self.loss.distillation_weight == 0 or self.teacher.path is not None,
            "loss.distillation_weight is above 0, but there is no teacher to imitate: give train.teacher.path",
        )
        check(
            self.augment.mixup == self.augment.elastic == 0
            or (self.teacher.views > 0 and max(self.loss.distillation_weight, self.loss.features_weight) > 0),
            "augment.mixup and elastic make faces that are nobody's, which only a teacher can label: give "
            "train.teacher.views, and imitate it (loss.distillation_weight or features_weight)",
        )
        check(
            self.loss.features_weight == 0 or self.teacher.features is not None,
            "loss.features_weight is above 0, but no feature map is named: give train.teacher.features",
        )

"""The optimizer, its schedule and the bookkeeping of a fit. No framework is imported here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from slimcam.deploy.common.choices import Choice, choose
from slimcam.deploy.common.messages import did_you_mean, one_line
from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT, NOT_KEY


class Optimizer(Choice):
    """How weights follow gradients."""

    SGD = "sgd"
    ADAMW = "adamw"
    MUON = "muon"


class Precision(Choice):
    """Numbers of feature maps and their gradients; weights are float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


def check(condition: bool, message: str) -> None:
    """Raises a ValueError with the message where a condition does not hold."""
    if not condition:
        raise ValueError(message)


@dataclass
class FitConfig:
    """Optimizer, schedule and bookkeeping of one fit.

    Attributes:
        epochs: Passes over the training images; fractions are fine.
        batch_size: Images of a step.
        optimizer: `sgd` (Nesterov momentum 0.9), `adamw`, or `muon`, which takes the learning rates of AdamW and
            fine-tunes the recognizer with fewer images (docs/recipe.md).
        learning_rate: Peak of the learning rate, reached by linear warm-up and left by a half cosine.
        final_fraction: Share of the peak that the learning rate ends at.
        warmup: Share of the steps spent warming up.
        weight_decay: Decoupled weight decay; normalization parameters and biases are exempt.
        clip_norm: Global norm that gradients are clipped to; 0 does not clip.
        precision: `float32`, or `bfloat16` for feature maps and their gradients (weights stay float32): 1.3 to 1.7
            times as fast on accelerators and on processors that multiply it; on others, `float32` all the same.
        sizes: Pixels of the images, in equal shares of the steps, for example `[64, 96, 112]`: small images first cost
            a fraction (Tan and Le 2021, "EfficientNetV2", section 4), and can do lasting harm (docs/recipe.md, "One
            size"). Empty: the model's own size throughout.
        ema: Decay for each step of the moving average of the weights that becomes the result; 0 takes the last weights.
        validations: Number of evaluations on held-out data, evenly spread; the best weights become the result. 0
            takes the last weights.
        patience: Number of validations in a row without a better one after which the fit ends early; 0 never does.
        checkpoint_seconds: Most work that is lost when the process is killed.
        log_seconds: Time between two lines of progress.
        devices: Number of devices that share each batch, on JAX; those of all processes, where there are several
            (docs/accelerator.md). The result is that of one device but for rounding.
        accumulate: Number of batches whose gradients are averaged for one update, which then is that of a batch as
            many times as large, but for the statistics of normalization. Keras 3 only.
    """

    epochs: float = 10.0
    batch_size: int = 64
    optimizer: str = Optimizer.SGD.value
    learning_rate: float = 0.1
    final_fraction: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 5e-4
    clip_norm: float = 5.0
    precision: str = Precision.FLOAT32.value
    sizes: list[int] = field(default_factory=list)
    ema: float = 0.0
    validations: int = 0
    checkpoint_seconds: float = field(default=120.0, metadata=NOT_KEY)
    log_seconds: float = field(default=10.0, metadata=NOT_KEY)
    patience: int = field(default=0, metadata=KEY_UNLESS_DEFAULT)
    devices: int = field(default=1, metadata=NOT_KEY)
    accumulate: int = field(default=1, metadata=KEY_UNLESS_DEFAULT)

    def __post_init__(self) -> None:
        choose("optimizer", Optimizer, self.optimizer)
        check(self.epochs > 0, f"epochs must be above 0; got {self.epochs}")
        check(self.batch_size > 0, f"batch_size must be above 0; got {self.batch_size}")
        check(self.learning_rate > 0, f"learning_rate must be above 0; got {self.learning_rate}")
        for name in ("warmup", "final_fraction"):
            check(0 <= getattr(self, name) <= 1, f"{name} is a share, 0 to 1; got {getattr(self, name)}")
        for name in ("devices", "accumulate"):
            check(getattr(self, name) >= 1, f"{name} must be 1 or more; got {getattr(self, name)}")
        choose("precision", Precision, self.precision)
        check(all(size > 0 for size in self.sizes), f"sizes are pixels, above 0; got {list(self.sizes)}")
        check(0 <= self.ema < 1, f"ema is a decay, 0 to below 1; got {self.ema}")
        for name in ("weight_decay", "clip_norm", "validations", "patience", "checkpoint_seconds", "log_seconds"):
            check(getattr(self, name) >= 0, f"{name} must not be below 0; got {getattr(self, name)}")
        check(self.patience == 0 or self.validations > 0, "patience counts validations: give validations too")

    def refuse_tf_keras(self, training: str) -> None:
        """Raises a ValueError that names the options which tf_keras does not have, and the training that it does."""
        wanted = {
            "optimizer=muon": self.optimizer == Optimizer.MUON,
            "precision=bfloat16": self.precision != Precision.FLOAT32,
            f"sizes={list(self.sizes)}": bool(self.sizes),
            f"devices={self.devices}": self.devices > 1,
            f"accumulate={self.accumulate}": self.accumulate > 1,
        }
        given = [f"fit.{option}" for option, there in wanted.items() if there]
        check(not given, f"{' and '.join(given)}: for Keras 3 alone, and {training} is done by tf_keras; leave it out")


def phases_of(fit: FitConfig, phases: list[dict[str, Any]]) -> list[FitConfig]:
    """The fits of a training in order, `fit` as the last.

    Args:
        fit: Options of the last phase, and of earlier ones where they give none.
        phases: Options of each earlier phase that differ.

    Raises:
        ValueError: A phase has no such option, or refuses its value.
    """
    names = [option.name for option in fields(FitConfig)]
    found = []
    for number, options in enumerate(phases, 1):
        for name in options:
            check(name in names, f"phases: number {number} has no option {name!r}{did_you_mean(name, names)}")
        try:
            whole: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(FitConfig), asdict(fit), options))
            found.append(whole)
        except (ValueError, OmegaConfBaseException) as error:
            raise ValueError(f"phases: number {number}: {one_line(error)}") from error
    return [*found, fit]

"""The optimizer, its schedule and the bookkeeping of a fit. No framework is imported here."""

from __future__ import annotations

from dataclasses import dataclass, field

from deploy.common.result_key import NOT_KEY

OPTIMIZERS = ("sgd", "adamw")
PRECISIONS = ("float32", "bfloat16")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass
class FitConfig:
    """Optimizer, schedule and bookkeeping of one fit.

    Attributes:
        epochs: passes over the training images; fractions are fine.
        batch_size: images a step.
        optimizer: `sgd` (Nesterov momentum 0.9) or `adamw`.
        learning_rate: peak; reached by linear warm-up and left by a half cosine to `final_fraction` of it.
        warmup: share of the steps spent warming up.
        weight_decay: decoupled; normalisation parameters and biases are spared.
        clip_norm: gradients are clipped to this global norm; 0 leaves them alone.
        precision: `float32`, or `bfloat16` for feature maps and their gradients (weights stay float32): 1.3 to 1.7
            times as fast on processors that multiply it.
        sizes: pixels of the images, in equal shares of the steps, for example `[64, 96, 112]`: small images first cost
            a fraction (Tan and Le 2021, "EfficientNetV2", section 4), and can do lasting harm (docs/recipe.md, "One
            size"). Empty: the model's own size all along.
        ema: decay a step of the moving average of the weights that becomes the result; 0 takes the last weights.
        validations: how often, evenly spread, the model is judged on people held out of the data; the best weights
            become the result. 0 takes the last ones.
        checkpoint_seconds: at most so much work is lost when the process is killed.
        log_seconds: time between two lines of progress.
    """

    epochs: float = 10.0
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    final_fraction: float = 0.01
    warmup: float = 0.05
    weight_decay: float = 5e-4
    clip_norm: float = 5.0
    precision: str = "float32"
    sizes: list[int] = field(default_factory=list)
    ema: float = 0.0
    validations: int = 0
    checkpoint_seconds: float = field(default=120.0, metadata=NOT_KEY)
    log_seconds: float = field(default=10.0, metadata=NOT_KEY)

    def __post_init__(self) -> None:
        _check(self.optimizer in OPTIMIZERS, f"optimizer is one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")
        _check(self.epochs > 0, f"epochs must be above 0; got {self.epochs}")
        _check(self.batch_size > 0, f"batch_size must be above 0; got {self.batch_size}")
        _check(self.learning_rate > 0, f"learning_rate must be above 0; got {self.learning_rate}")
        for name in ("warmup", "final_fraction"):
            _check(0 <= getattr(self, name) <= 1, f"{name} is a share, 0 to 1; got {getattr(self, name)}")
        _check(self.precision in PRECISIONS, f"precision is one of {', '.join(PRECISIONS)}; got {self.precision!r}")
        _check(all(size > 0 for size in self.sizes), f"sizes are pixels, above 0; got {list(self.sizes)}")
        _check(0 <= self.ema < 1, f"ema is a decay, 0 to below 1; got {self.ema}")
        for name in ("weight_decay", "clip_norm", "validations", "checkpoint_seconds", "log_seconds"):
            _check(getattr(self, name) >= 0, f"{name} must not be below 0; got {getattr(self, name)}")

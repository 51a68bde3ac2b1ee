"""The configuration of a run: what `conf/` and the command line give, checked against dataclasses.

Each group's dataclass lives beside the code that it configures. `register` makes them known to Hydra under `/schema`,
where the files of `conf/` name them first in their defaults: a misspelt key or a wrong type is found when that very
file is merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from slimcam import conf
from slimcam.compression.quantization.schemes import Scheme, default_scheme
from slimcam.deploy.benchmark import targets
from slimcam.deploy.common.choices import Choice, choose
from slimcam.deploy.common.messages import did_you_mean, one_line
from slimcam.pipeline.stages.config import ConvertConfig, EvaluateConfig, PruneConfig, QuantizeConfig
from slimcam.pipeline.stages.file_config import FilePruneConfig, ModelFileConfig
from slimcam.training.data.own import OwnDataConfig
from slimcam.training.data.sources import SOURCES
from slimcam.training.tasks.classification.config import ClassifierConfig, ClassifierLossConfig, ClassifierTrainConfig
from slimcam.training.tasks.detection.config import DetectorConfig, DetectorLossConfig, DetectorTrainConfig
from slimcam.training.tasks.recognition.config import TrainConfig
from slimcam.training.tasks.recognition.model import ModelConfig
from slimcam.training.tasks.task import TaskConfig, Teacher

_TASK_OF = {ModelConfig: "recognition", ClassifierConfig: "classification", DetectorConfig: "detection"}
"""The task that data of the user's own are for, by what is built."""


class Backend(Choice):
    """What Keras computes with."""

    TENSORFLOW = "tensorflow"
    JAX = "jax"
    TORCH = "torch"


@dataclass
class PathsConfig:
    """Folders that a run writes to.

    Attributes:
        runs: `<runs>/<name>/` gets the latest report and bundle of each name.
        store: results of stages, addressed by what made them; deleting one makes its stage run again.
        cache: derived data that stages share; may be deleted at any time.
    """

    runs: str = "runs"
    store: str = "runs/store"
    cache: str = "runs/cache"


@dataclass
class SearchConfig:
    """A search for the pruning ratio of each group of channels; there is none where `ratios` is empty.

    Attributes:
        ratios: Smallest and largest ratio to try, by a pattern of groups as in `prune.ratios`: `{conv5_*: [0.3, 0.9]}`.
        step: Distance between the ratios that are tried.
        trials: Number of networks to try in all, those of earlier starts of the same search among them.
        seed: Seed of what is tried.
    """

    ratios: dict[str, list[float]] = field(default_factory=dict)
    step: float = 0.05
    trials: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for pattern, span in self.ratios.items():
            if not (len(span) == 2 and 0 <= span[0] <= span[1] < 1):
                raise ValueError(f"ratios.{pattern} is a smallest and a largest ratio, from 0 to below 1; got {span}")
        if self.step <= 0 or self.trials < 1 or self.seed < 0:
            raise ValueError(
                f"step is above 0, trials 1 or more, seed 0 or more; got {self.step}, {self.trials} and {self.seed}"
            )


@dataclass
class Config:
    """Everything that a run depends on.

    Attributes:
        name: Name of the run, for its folder and the title of its report.
        stages: Stages to bring up to date.
        data: Source of the data, whose kind decides the task; model, train, prune and quantize belong to the same task.
        model, train, prune, quantize, evaluate: Sections of the model and of the stages.
        task: Task of your own.
        backend: Backend of Keras for training and pruning; a run started on one goes on with another. Quantization
            always runs on TensorFlow.
        benchmark: Target to measure on, as in `slimcam-benchmark target=`.
    """

    name: str = MISSING
    stages: list[str] = MISSING
    backend: str = Backend.TENSORFLOW.value
    data: Any = MISSING
    model: Any = MISSING
    train: Any = MISSING
    prune: Any = MISSING
    quantize: Any = MISSING
    evaluate: Any = MISSING
    benchmark: Any = MISSING
    task: TaskConfig = field(default_factory=TaskConfig)
    convert: ConvertConfig = field(default_factory=ConvertConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)

    def __post_init__(self) -> None:
        choose("backend", Backend, self.backend)
        if isinstance(self.data, OwnDataConfig) and self.data.task is None:
            self.data.task = _TASK_OF.get(type(self.model))
        if not self.name or self.name.startswith(".") or "/" in self.name:
            raise ValueError(f"name becomes a folder, so it has no slash and no leading dot; got {self.name!r}")
        if isinstance(self.prune, PruneConfig) and self.prune.converted is not None:
            self._refuse_dense_teacher()

    def _refuse_dense_teacher(self) -> None:
        """Of the dense model only the shape counts where fine-tuning goes on from a converted network."""
        trained = {"prune": self.prune}
        if Scheme(self.quantize.scheme).facts.trains:
            trained["quantize"] = self.quantize
        imitating = [
            name
            for name, section in trained.items()
            if section.teacher == Teacher.DENSE and section.loss.distillation_weight > 0
        ]
        if imitating:
            off = " ".join(f"{name}.loss.distillation_weight=0" for name in imitating)
            raise ValueError(
                f"prune.weights={self.prune.weights} takes only the dense model's shape, and {' and '.join(imitating)} "
                f"would imitate that model, which need not be trained: set {off}, or teacher=external there"
            )


@dataclass
class DetectorPruneConfig(PruneConfig):
    """The prune stage of a detector."""

    loss: Any = field(default_factory=DetectorLossConfig)


@dataclass
class DetectorQuantizeConfig(QuantizeConfig):
    """The quantize stage of a detector."""

    loss: Any = field(default_factory=DetectorLossConfig)


def _distilled_classifier() -> ClassifierLossConfig:
    return ClassifierLossConfig(label_smoothing=0.0, distillation_weight=1.0)


@dataclass
class ClassifierPruneConfig(PruneConfig):
    """The prune stage of a classifier."""

    loss: Any = field(default_factory=_distilled_classifier)


@dataclass
class ClassifierQuantizeConfig(QuantizeConfig):
    """The quantize stage of a classifier."""

    loss: Any = field(default_factory=_distilled_classifier)


SCHEMAS: dict[str, type] = {
    "slimcam": Config,
    **{f"data/{name}": source.config for name, source in SOURCES.items()},
    "model": ModelConfig,
    "model/detector": DetectorConfig,
    "model/classifier": ClassifierConfig,
    "model/file": ModelFileConfig,
    "train": TrainConfig,
    "train/detection": DetectorTrainConfig,
    "train/classification": ClassifierTrainConfig,
    "prune": PruneConfig,
    "prune/detection": DetectorPruneConfig,
    "prune/classification": ClassifierPruneConfig,
    "prune/file": FilePruneConfig,
    "quantize": QuantizeConfig,
    "quantize/detection": DetectorQuantizeConfig,
    "quantize/classification": ClassifierQuantizeConfig,
    "convert": ConvertConfig,
    "evaluate": EvaluateConfig,
    "search": SearchConfig,
    "paths": PathsConfig,
    "task": TaskConfig,
}


def register() -> None:
    """Makes the schemas known to Hydra as `/schema/<name>`."""
    store = ConfigStore.instance()
    for path, schema in SCHEMAS.items():
        group, _, name = f"schema/{path}".rpartition("/")
        store.store(group=group, name=name, node=schema)
    targets.register()
    OmegaConf.register_new_resolver("config_groups", _config_groups, replace=True)
    OmegaConf.register_new_resolver("stem", _stem, replace=True)
    OmegaConf.register_new_resolver("default_scheme", lambda root: default_scheme(root).value, replace=True)


def _stem(path: str | None) -> str:
    """The name of a file or folder without its suffix, as that of a run."""
    return Path(path or "").resolve().stem.lstrip(".") or "model"


def _config_groups() -> str:
    """The groups of `conf/` and what can be chosen in each, a line each, for the help."""
    folders = sorted(path for path in Path(str(conf.__file__)).parent.iterdir() if path.is_dir())
    names = {folder.name: ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) for folder in folders}
    return "\n".join(f"{group:<12}{options}" for group, options in names.items() if options and group != "device")


def validate(composed: DictConfig) -> Config:
    """Turns a composed configuration into dataclasses.

    Raises:
        ValueError: a key that no schema has, a required value that is missing, or a value that a schema refuses.
    """
    for path, key, schema in _unknown_keys(composed, ""):
        names = [known.name for known in fields(schema)]
        raise ValueError(f"{path or 'the configuration'} has no key {key!r}{did_you_mean(key, names)}")
    for path in sorted(OmegaConf.missing_keys(composed)):
        raise ValueError(f"{path} is required; give it on the command line as {path}=...")
    for name in ("data", "model", "train", "prune", "quantize", "evaluate", "benchmark"):
        if OmegaConf.get_type(composed[name]) is dict:
            raise ValueError(
                f"{name}: its file names no schema; begin it with defaults: [/schema/{name}@_here_, _self_], or "
                f"another /schema/{name}/..."
            )
    sections: dict[str, Any] = {}
    for section in composed:
        name, value = str(section), composed[section]
        try:
            sections[name] = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
        except ValueError as error:
            raise ValueError(f"{name}: {one_line(error)}") from error
    return Config(**{**sections, "quantize": _of_task(sections["quantize"], sections["data"])})


def _of_task(quantize: Any, data: Any) -> Any:
    """The quantize section with the loss of the data's task, where it came with that of a recognizer.

    The files that `quantize=NAME` chooses are about a scheme, and the same for all tasks.

    Raises:
        ValueError: options of a recognizer's loss are set, which the task does not have.
    """
    schema = SCHEMAS.get(f"quantize/{data.task}")
    if schema is None or type(quantize) is not QuantizeConfig:
        return quantize
    if quantize.loss != QuantizeConfig().loss:
        raise ValueError(
            f"quantize.loss: {data.task} has other options than these, which are a recognizer's; leave quantize=NAME "
            f"out, and set quantize.scheme=NAME"
        )
    shared = {option.name: getattr(quantize, option.name) for option in fields(quantize) if option.name != "loss"}
    return schema(**shared)


def _unknown_keys(node: DictConfig, path: str) -> Iterator[tuple[str, str, type]]:
    """Keys that `+key=value` put into a dataclass's place, as (path, key, dataclass)."""
    schema = OmegaConf.get_type(node)
    for key in node:
        name = str(key)
        if is_dataclass(schema) and name not in {known.name for known in fields(schema)}:
            yield path, name, schema
        elif not OmegaConf.is_missing(node, key) and isinstance(node[key], DictConfig):
            yield from _unknown_keys(node[key], f"{path}.{name}" if path else name)

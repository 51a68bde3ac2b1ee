"""The stages of the pipeline: the ordered list, and which result each of them has under a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slimcam.deploy.common.messages import did_you_mean
from slimcam.deploy.common.result_key import key_material
from slimcam.pipeline.stages.file_config import STAGE as COMPRESS
from slimcam.pipeline.stages.file_config import ModelFileConfig, check_file
from slimcam.pipeline.store import key_of


@dataclass(frozen=True)
class Stage:
    """One step from results to results.

    Attributes:
        name: of the stage and of its folder in the store.
        function: `module:function`, called with a `slimcam.training.tasks.job.Job` in a process of its own.
        sections: the attributes of the configuration that it depends on; it sees no change of others.
        inputs: the stages whose results it reads.
        backend: `keras` runs on the configured Keras backend, `tensorflow` needs that one; none needs no Keras.
        version: raised when the code changes so that results of the same configuration differ.
    """

    name: str
    function: str
    sections: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    backend: str | None = None
    version: int = 1


STAGES = (
    Stage("pack", "slimcam.pipeline.stages.pack:run", ("data", "model", "train")),
    Stage(
        "check",
        "slimcam.pipeline.stages.check:run",
        ("data", "model", "train", "prune", "quantize"),
        (),
        "tensorflow",
    ),
    Stage("train", "slimcam.pipeline.stages.train:run", ("data", "model", "train"), (), "keras"),
    Stage(
        "sensitivity",
        "slimcam.pipeline.stages.sensitivity:run",
        ("data", "model", "train", "prune"),
        ("train",),
        "keras",
    ),
    Stage(
        "prune",
        "slimcam.pipeline.stages.prune:run",
        ("data", "model", "train", "prune"),
        ("train",),
        "keras",
        version=8,
    ),
    Stage(
        "quantize",
        "slimcam.pipeline.stages.quantize:run",
        ("data", "model", "train", "quantize"),
        ("train", "prune"),
        "tensorflow",
        version=5,
    ),
    Stage(
        "convert",
        "slimcam.pipeline.stages.convert:run",
        ("data", "model", "train", "prune", "quantize", "convert"),
        ("train", "prune", "quantize"),
        "tensorflow",
        version=3,
    ),
    Stage("benchmark", "slimcam.pipeline.stages.benchmark:run", ("benchmark",), ("convert",)),
    Stage(
        "evaluate", "slimcam.pipeline.stages.evaluate:run", ("data", "evaluate"), ("convert", "benchmark"), version=3
    ),
    Stage(
        "report",
        "slimcam.pipeline.report.report:run",
        ("name", "data", "model", "train", "prune", "quantize", "convert", "benchmark", "evaluate"),
        ("train", "prune", "quantize", "convert", "benchmark", "evaluate"),
    ),
)


FILE_STAGE = Stage(
    COMPRESS,
    "slimcam.pipeline.stages.compress:run",
    ("data", "model", "prune", "quantize"),
    (),
    "tensorflow",
    version=2,
)
"""The stage of a model file alone."""


def stages_of(config: Any) -> tuple[Stage, ...]:
    """The stages under a configuration, in order.

    A model file has one of its own. A latency is that of the configured target, on which pruning then depends.
    Single weights are pruned in tf_keras, by a stage of that name too.

    Raises:
        ValueError: What is configured does not go with a model file.
    """
    if isinstance(config.model, ModelFileConfig):
        check_file(config)
        return (_with_target(FILE_STAGE, config),)
    stages = tuple(_pruning(stage, config) if stage.name == "prune" else stage for stage in STAGES)
    if config.task._target_ is None:
        return stages
    # A task of the user's is part of what each stage depends on that asks for its task.
    return tuple(
        replace(stage, sections=(*stage.sections, "task")) if "data" in stage.sections else stage for stage in stages
    )


def _pruning(stage: Stage, config: Any) -> Stage:
    if config.prune.method == "magnitude":
        return replace(stage, function="slimcam.pipeline.stages.prune_magnitude:run", backend="tensorflow", version=1)
    return _with_target(stage, config)


def _with_target(stage: Stage, config: Any) -> Stage:
    return replace(stage, sections=(*stage.sections, "benchmark")) if config.prune.target == "latency" else stage


# Keras' backends differ by rounding and by the initial weights that they draw, so that what one has made, or begun,
# serves the others: in keys this name stands for each of them. The receipt says which one it was.
ANY_BACKEND = "tensorflow"


@dataclass(frozen=True)
class Step:
    """A stage under one configuration.

    Attributes:
        key: of its result in the store.
        facts: what makes the result: version, configuration, inputs' keys, the data's fingerprint, Keras' backend. The
            key is made of them, less what leaves results as they are.
    """

    stage: Stage
    key: str
    facts: dict[str, Any]


def steps(config: Any, stages: Sequence[Stage] | None = None) -> dict[str, Step]:
    """The step of every stage, in order, by name; each key covers the keys of the stage's inputs."""
    stages = stages_of(config) if stages is None else stages
    known: dict[str, Step] = {}
    fingerprint = _data_fingerprint(config) if any("data" in stage.sections for stage in stages) else None
    for stage in stages:
        facts: dict[str, Any] = {
            "stage": stage.name,
            "version": stage.version,
            "config": {section: _values(section, getattr(config, section)) for section in stage.sections},
            "inputs": {name: known[name].key for name in stage.inputs},
        }
        if "data" in stage.sections:
            facts["data"] = fingerprint
        material = {**facts, "config": {name: _material(name, getattr(config, name)) for name in stage.sections}}
        if stage.backend == "keras":
            facts["backend"], material["backend"] = config.backend, ANY_BACKEND
        known[stage.name] = Step(stage, key_of(material), facts)
    return known


def select(names: Iterable[str], stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The named stages in the pipeline's order.

    Raises:
        ValueError: no name, or one that is not a stage's.
    """
    wanted = list(names)
    known = [stage.name for stage in stages]
    for name in wanted:
        if name not in known:
            raise ValueError(f"stages: no stage {name!r}{did_you_mean(name, known)}")
    if not wanted:
        raise ValueError(f"stages: none given; name one or more of {', '.join(known)}")
    return tuple(stage for stage in stages if stage.name in wanted)


def _values(name: str, section: Any) -> Any:
    if name == "data":
        from slimcam.training.data.sources import source

        return source(section)
    return dataclasses.asdict(section) if dataclasses.is_dataclass(section) else section  # type: ignore[arg-type]


def _material(name: str, section: Any) -> Any:
    """What results depend on: not where the faces lie or files are, but which faces, and what is in the files."""
    if name == "data":
        from slimcam.training.data.sources import material

        return material(section)
    return key_material(section)


def _data_fingerprint(config: Any) -> str:
    from slimcam.training.data.sources import fingerprint

    return fingerprint(config.data)

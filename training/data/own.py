"""Data of the user's own: a function in the working directory, or wherever Python looks, that gives them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from slimcam.deploy.common.messages import one_line
from slimcam.deploy.common.own_code import code_key, find, of_target
from slimcam.deploy.common.result_key import in_key, path_content
from slimcam.training.data.classification.labeled import ClassData
from slimcam.training.data.recognition.faces import FaceData


def _contents(options: Any) -> Any:
    """Arguments, of which those that name files or folders count by their contents."""
    return {name: path_content(value) for name, value in options.items()}


@dataclass
class OwnDataConfig:
    """Data that a function of yours gives.

    Attributes:
        _target_: Your function, `package.module.function`, in the working directory or wherever Python looks. It is
            called with the options and gives `ClassData` (`slimcam.training.data.classification.labeled`) or `FaceData`
            (`slimcam.training.data.recognition.faces`). The stages run again when its source, or that of another module
            of its package, was edited.
        options: Arguments of the function. One that names a file or a folder counts by its content.
        task: Task that the data are for, `classification` or `recognition`; `null` stands for that of the model.
    """

    kind: str = "own"
    _target_: str = field(default="???", metadata=in_key(material=code_key))
    options: dict[str, Any] = field(default_factory=dict, metadata=in_key(material=_contents))
    task: str | None = None

    def __post_init__(self) -> None:
        if self._target_ != "???":
            self._target_ = of_target(self._target_, "data._target_")


def fingerprint(config: OwnDataConfig) -> str:
    """A digest of the function's source and of what its arguments name."""
    material = [code_key(config._target_), _contents(config.options)]
    return hashlib.sha256(json.dumps(material, sort_keys=True, default=str).encode()).hexdigest()


def load_faces(config: OwnDataConfig) -> FaceData:
    """What the function gives, for recognition; raises what `_load` raises."""
    faces: FaceData = _load(config, FaceData)
    return faces


def load_classes(config: OwnDataConfig) -> ClassData:
    """What the function gives, for classification; raises what `_load` raises."""
    classes: ClassData = _load(config, ClassData)
    return classes


def _load(config: OwnDataConfig, kind: type[Any]) -> Any:
    """Raises:
    ValueError: there is no such function, it fails, or it gives something else.
    """
    try:
        data = find(config._target_)(**config.options)
    except (ValueError, OSError, TypeError) as error:
        raise ValueError(f"data._target_ {config._target_}: {one_line(error)}") from error
    if not isinstance(data, kind):
        raise ValueError(
            f"data._target_ {config._target_} gives a {type(data).__name__}; the task needs a {kind.__name__} of "
            f"{kind.__module__}"
        )
    return data

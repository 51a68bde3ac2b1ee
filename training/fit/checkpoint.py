"""What a fit keeps in files: its checkpoint, and the best weights that were validated."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import save_arrays
from slimcam.training.fit.config import FitConfig

History = list[dict[str, float]]

_BESIDE = "beside_"


class Sampled(Protocol):
    """A part of the model that is a sample at each step, of arrays beside it which go into the checkpoint."""

    @property
    def arrays(self) -> Mapping[str, Any]: ...

    def restore(self, arrays: Mapping[str, NDArray[np.float32]]) -> None: ...

    def enter(self, learner: Any, step: int, batch: Any) -> Any:
        """Puts the sample of a step into the learner; the batch as this sample sees it."""
        ...

    def leave(self, learner: Any) -> None:
        """Takes back what the step made of it."""
        ...


def save(model: Any, step: int, history: History, path: Path, sampled: Sampled | None) -> None:
    """Writes every variable of a model and of its optimizer, what is sampled, and how far the fit is."""
    # Variables, which NumPy makes arrays of one after the other: all at once would take their memory once more.
    weights = {f"weight_{i}": variable for i, variable in enumerate(model.weights)}
    state = {f"optimizer_{i}": variable for i, variable in enumerate(model.optimizer.variables)}
    beside = {} if sampled is None else {f"{_BESIDE}{name}": value for name, value in sampled.arrays.items()}
    save_arrays(path, step=step, history=json.dumps(history), **weights, **state, **beside)


def restore(model: Any, path: Path, sampled: Sampled | None) -> tuple[int, History]:
    """Reads what `save` wrote, if it did: the steps that are done, and the history."""
    if not path.is_file():
        return 0, []
    with np.load(path) as saved:
        model.set_weights([saved[f"weight_{i}"] for i in range(len(model.get_weights()))])
        for i, variable in enumerate(model.optimizer.variables):
            variable.assign(saved[f"optimizer_{i}"])
        if sampled is not None:
            names = [name for name in saved.files if name.startswith(_BESIDE)]
            sampled.restore({name.removeprefix(_BESIDE): saved[name] for name in names})
        return int(saved["step"]), json.loads(str(saved["history"]))


def take_over(learner: Any, model: Any, config: FitConfig) -> None:
    """Gives the model the weights that count: the moving average where there is one."""
    current: list[NDArray[np.float32]] = learner.get_weights()
    if not config.ema:
        model.set_weights(current)
        return
    learner.optimizer.finalize_variable_values(learner.trainable_variables)
    averaged: list[NDArray[np.float32]] = learner.get_weights()
    learner.set_weights(current)
    model.set_weights(averaged)


def best_validated(model: Any, validate: Callable[[Any], float], history: History, best: Path) -> float:
    """Accuracy on held-out data; weights better than any before are saved to `best`."""
    accuracy = validate(model)
    if accuracy >= max((entry.get("accuracy", 0.0) for entry in history), default=0.0):
        save_arrays(best, **{f"weight_{i}": value for i, value in enumerate(model.get_weights())})
    return accuracy


def adopt(learner: Any, model: Any, config: FitConfig, best: Path) -> None:
    """Gives the model the weights of the fit: the best that were validated, or the last."""
    if config.validations:
        with np.load(best) as saved:
            model.set_weights([saved[f"weight_{i}"] for i in range(len(saved.files))])
    else:
        take_over(learner, model, config)

"""What a fit keeps in files: its checkpoint, and the best weights that were validated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import save_arrays
from slimcam.training.fit.config import FitConfig

History = list[dict[str, float]]


def save(model: Any, step: int, history: History, path: Path, more: dict[str, NDArray[np.float32]]) -> None:
    """Writes every variable of a model and of its optimizer, how far its fit is, and more arrays by their names."""
    weights = {f"weight_{i}": value for i, value in enumerate(model.get_weights())}
    state = {f"optimizer_{i}": np.asarray(value) for i, value in enumerate(model.optimizer.variables)}
    beside = {f"beside_{name}": value for name, value in more.items()}
    save_arrays(path, step=step, history=json.dumps(history), **weights, **state, **beside)


def restore(model: Any, path: Path, more: dict[str, NDArray[np.float32]]) -> tuple[int, History]:
    """Reads what `save` wrote, if it did: the steps that are done, and the history."""
    if not path.is_file():
        return 0, []
    with np.load(path) as saved:
        model.set_weights([saved[f"weight_{i}"] for i in range(len(model.get_weights()))])
        for i, variable in enumerate(model.optimizer.variables):
            variable.assign(saved[f"optimizer_{i}"])
        more |= {name.removeprefix("beside_"): saved[name] for name in saved.files if name.startswith("beside_")}
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

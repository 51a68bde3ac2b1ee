"""A search for the pruning ratio of each group of channels: what is most accurate within the gates.

Each trial is a run of the pipeline, whose training is in the store. What was tried is in `search.db`, an Optuna study
(Akiba et al. 2019) in a file of SQLite: the same command goes on with it, and so do several at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from slimcam.deploy.common.console import show
from slimcam.pipeline import members, store
from slimcam.pipeline.config import Config, SearchConfig
from slimcam.pipeline.members import Outcome
from slimcam.pipeline.report import comparison, wording
from slimcam.pipeline.report.table import TABLE, load
from slimcam.pipeline.steps import steps

DATABASE = "search.db"

EARLIER = Outcome(members.ERROR, "of an earlier search, with other options")

logger = logging.getLogger(__name__)


def search(config: Config, name: str) -> Outcome:
    """Tries networks until there are `config.search.trials`, and shows them side by side.

    Args:
        name: Of the folder below `config.paths.runs`; each trial has one of its own below it.

    Returns:
        That no trial passed the gates, or that one did.

    Raises:
        ValueError: The stages make no report, which trials are compared by.
    """
    if "report" not in config.stages:
        raise ValueError("search: trials are compared by their reports; have report among the stages")
    folder = Path(config.paths.runs) / name
    study = _study(config, folder)
    while True:
        with _next(study, folder, config.search.trials) as trial:
            if trial is None:
                break
            _try(trial, config, name)
    tried = {_folder(folder, trial.number): trial for trial in study.get_trials(deepcopy=False)}
    found = members.outcomes(tried)
    if found:
        show("\n" + comparison.write(comparison.of_members(found), folder))
    within = [trial for trial in tried.values() if trial.state == TrialState.COMPLETE and _feasible(trial)]
    if not within:
        logger.error("slimcam: no trial passed all gates: allow other ratios, or more trials")
        return Outcome(members.GATES_FAILED, members.NO_REPORT)
    best = max(within, key=lambda trial: trial.value or 0.0)
    show(
        f"most accurate within the gates: {_folder(folder, best.number).name}, {wording.percent(best.value)}\n"
        f"its ratios, for a run in full: {_written(best.params)}"
    )
    return Outcome(members.DONE, members.NO_REPORT)


def _study(config: Config, folder: Path) -> optuna.Study:
    """The study of what this configuration asks for; other options, even of a late stage, are another one."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    storage = f"sqlite:///{folder.absolute() / DATABASE}"
    key = store.key_of(
        {"evaluate": steps(config)["evaluate"].key, "ratios": config.search.ratios, "step": config.search.step}
    )
    if key not in optuna.get_all_study_names(storage):
        for path in members.outcomes(folder.glob("trial_*")):
            members.write(path, EARLIER)
    study = optuna.create_study(storage=storage, study_name=key, direction="maximize", load_if_exists=True)
    # With the same seed at each start a sampler would try again what it tried first.
    study.sampler = optuna.samplers.TPESampler(seed=config.search.seed + len(study.get_trials(deepcopy=False)))
    return study


@contextmanager
def _next(study: optuna.Study, folder: Path, most: int) -> Iterator[Trial | None]:
    """A trial that was begun and that no process is at any more, or else a new one; none where there are enough."""
    while True:
        begun = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        waiting: list[Callable[[], Trial]] = [partial(Trial, study, trial._trial_id) for trial in begun]
        if len(study.get_trials(deepcopy=False)) < most:
            waiting.append(study.ask)
        for take in waiting:
            trial = take()
            with store.alone(_folder(folder, trial.number) / ".lock") as lock:
                if lock is not None and _state(study, trial) == TrialState.RUNNING:
                    yield trial
                    return
        if len(study.get_trials(deepcopy=False)) >= most:
            yield None
            return


def _state(study: optuna.Study, trial: Trial) -> TrialState:
    return study.get_trials(deepcopy=False)[trial.number].state


def _try(trial: Trial, config: Config, name: str) -> None:
    """Runs the pipeline with the ratios of a trial, and tells the study what came of it."""
    ratios = {
        pattern: trial.suggest_float(pattern, low, high, step=config.search.step)
        for pattern, (low, high) in config.search.ratios.items()
    }
    folder = _folder(Path(config.paths.runs) / name, trial.number)
    show(f"\n{name}/{folder.name}  {_written(ratios)}")

    def work() -> Outcome:
        prune = replace(config.prune, ratios={**config.prune.ratios, **ratios})
        return members.perform(replace(config, prune=prune, search=SearchConfig()), f"{name}/{folder.name}")

    outcome = members.attempt(folder, work)
    if outcome.line:
        trial.study.tell(trial, state=TrialState.FAIL)
        return
    table = load(folder / TABLE)
    for gate in table.gates:
        trial.set_constraint(gate["name"], _violation(gate))
    trial.study.tell(trial, table.rows[-1].accuracy)


def _violation(gate: Mapping[str, Any]) -> float:
    """How far a figure is beyond its bound, as a share of it; within the bound 0 or less."""
    distance = abs(gate["figure"] - gate["bound"]) / (abs(gate["bound"]) or 1.0)
    return float(-distance if gate["passed"] else distance)


def _feasible(trial: FrozenTrial) -> bool:
    return all(violation <= 0 for violation in trial.constraints.values())


def _folder(parent: Path, number: int) -> Path:
    return parent / f"trial_{number:02d}"


def _written(ratios: Mapping[str, float]) -> str:
    """Ratios as an option of the command line."""
    return "'prune.ratios={" + ", ".join(f"{pattern}: {ratio:.6g}" for pattern, ratio in ratios.items()) + "}'"

"""A search for pruning ratios: its study in a file, with trials that take no time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_module

optuna = pytest.importorskip("optuna", reason="pip install 'slimcam[search]'")

from slimcam.pipeline import members, store  # noqa: E402 - after what tells whether it can be imported
from slimcam.pipeline.config import Config, SearchConfig, register, validate  # noqa: E402
from slimcam.pipeline.members import DONE, Outcome  # noqa: E402
from slimcam.pipeline.report import table  # noqa: E402
from slimcam.pipeline.report.table import Row, Table  # noqa: E402
from slimcam.pipeline.run import StageError  # noqa: E402
from slimcam.pipeline.search import _next, _study, search  # noqa: E402

BOUND_MB = 0.5


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        found = validate(compose("slimcam", overrides=["experiment=search"]))
    return replace(found, search=SearchConfig({"first*": [0.0, 0.9], "last*": [0.0, 0.9]}, 0.1, 12))


class Pipeline:
    """In place of the pipeline: more channels are more accurate and larger; a cut of all of `last` fails."""

    def __init__(self) -> None:
        self.ran: list[tuple[str, dict[str, float]]] = []
        self.kill_at = -1

    def __call__(self, config: Config, name: str) -> Outcome:
        if len(self.ran) == self.kill_at:
            self.kill_at = -1
            raise KeyboardInterrupt
        ratios = dict(config.prune.ratios)
        self.ran.append((name, ratios))
        if ratios["last*"] > 0.75:
            raise StageError("prune: nothing is left of last")
        size = 1 - 0.4 * ratios["first*"] - 0.6 * ratios["last*"]
        rows = (Row("dense", 1, 1, 1, 1, accuracy=0.9), Row("quantized", size, size, 1, 1, accuracy=0.8 + 0.1 * size))
        gate = {"name": "size_mb", "figure": size, "bound": BOUND_MB, "passed": size <= BOUND_MB, "text": ""}
        folder = Path(config.paths.runs) / name
        table.save(Table(name, "toy", 1, False, "Accuracy", rows, (gate,), ()), folder / table.TABLE)
        return Outcome(DONE)


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    made = Pipeline()
    monkeypatch.setattr(members, "perform", made)
    return made


def test_a_search_ends_with_the_most_accurate_trial_within_the_gates_and_names_those_that_failed(
    config: Config, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert search(config, "search").code == DONE
    said = capsys.readouterr().out
    assert [name for name, _ in pipeline.ran] == [f"search/trial_{number:02d}" for number in range(12)]
    failed = {name for name, ratios in pipeline.ran if ratios["last*"] > 0.75}
    assert failed
    assert said.count("StageError") == 0
    assert said.count(": prune: nothing is left of last") == len(failed)
    tables = {name: table.load(Path("runs") / name / table.TABLE) for name, _ in pipeline.ran if name not in failed}
    best = max((one for one in tables if not tables[one].failed), key=lambda one: tables[one].rows[-1].accuracy or 0)
    assert f"most accurate within the gates: {best.rpartition('/')[2]}," in said
    first, last = dict(pipeline.ran)[best].values()
    assert f"'prune.ratios={{first*: {first:.6g}, last*: {last:.6g}}}'" in said
    assert Path("runs/search/pareto.png").is_file()
    assert Path("runs/search/comparison.md").read_text().count("trial_") == 12 + len(failed)


def test_a_search_that_was_stopped_goes_on_with_the_trial_it_was_at(config: Config, pipeline: Pipeline) -> None:
    pipeline.kill_at = 4
    with pytest.raises(KeyboardInterrupt):
        search(config, "search")
    (storage,) = Path("runs/search").glob("*.db")
    begun = optuna.load_study(storage=f"sqlite:///{storage}", study_name=None).trials[-1]
    assert search(config, "search").code == DONE
    assert [name for name, _ in pipeline.ran] == [f"search/trial_{number:02d}" for number in range(12)]
    assert pipeline.ran[4][1] == begun.params
    search(config, "search")
    assert len(pipeline.ran) == 12
    search(replace(config, search=replace(config.search, trials=13)), "search")
    assert len(pipeline.ran) == 13
    # What is tried after a start is not what was tried after the one before.
    assert pipeline.ran[0][1] not in [ratios for _, ratios in pipeline.ran[4:8]]


def test_two_at_one_search_do_not_try_the_same(config: Config) -> None:
    folder = Path("runs/search")
    study = _study(config, folder)
    with _next(study, folder, 2) as one, _next(study, folder, 2) as other, _next(study, folder, 2) as none:
        assert (one.number, other.number, none) == (0, 1, None)
    with _next(study, folder, 2) as again:
        assert again.number == 0


def test_other_options_begin_another_search(config: Config, pipeline: Pipeline) -> None:
    few = replace(config, search=replace(config.search, trials=2))
    search(few, "search")
    assert "trial_01 " in Path("runs/search/comparison.md").read_text()
    other: Any = replace(few, evaluate=replace(few.evaluate, gates=replace(few.evaluate.gates, size_mb=0.1)))
    search(replace(other, search=replace(few.search, trials=1)), "search")
    assert len(pipeline.ran) == 3
    assert members.read(Path("runs/search/trial_01")).line.startswith("of an earlier search")  # type: ignore[union-attr]
    assert "trial_01 " not in Path("runs/search/comparison.md").read_text()


@pytest.mark.usefixtures("pipeline")
def test_a_search_without_a_trial_within_the_gates_says_so(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    whole = replace(config, search=SearchConfig({"first*": [0.0, 0.1], "last*": [0.0, 0.1]}, 0.1, 2))
    assert search(whole, "search").code == members.GATES_FAILED
    assert "no trial passed all gates" in capsys.readouterr().err
    with pytest.raises(ValueError, match="have report among the stages"):
        search(replace(config, stages=["train"]), "search")


def test_ratios_to_try_are_checked() -> None:
    with pytest.raises(ValueError, match="smallest and a largest"):
        SearchConfig({"first*": [0.5, 1.0]})
    with pytest.raises(ValueError, match="step is above 0"):
        SearchConfig(step=0.0)


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with store.alone(tmp_path / "lock") as first, store.alone(tmp_path / "lock") as second:
        assert first is not None
        assert second is None

"""A model file pruned alone: no task, no data, no training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import pytest

from slimcam.compression.pruning.cost import cost
from slimcam.pipeline.config import register, validate
from slimcam.pipeline.stages import prune_file
from slimcam.pipeline.stages.config import PruneConfig, SparseConfig
from slimcam.pipeline.steps import stages_of, steps
from slimcam.training.fit.files import load_keras
from slimcam.training.tasks.job import Job

L = keras.layers


@pytest.fixture
def file(tmp_path: Path) -> Path:
    inputs = keras.Input((16, 16, 3))
    x = L.ReLU()(L.Conv2D(64, 3, name="a")(inputs))
    x = L.ReLU()(L.Conv2D(64, 3, name="b")(x))
    keras.Model(inputs, L.Dense(10)(L.Flatten()(x))).save(tmp_path / "mine.keras")
    return tmp_path / "mine.keras"


def run(file: Path, **options: Any) -> Path:
    out = file.parent / "out"
    config = SimpleNamespace(model=SimpleNamespace(path=str(file)), prune=PruneConfig(**options))
    prune_file.run(Job(config, {}, out, file.parent / "work", file.parent / "cache"))
    return out


def test_a_file_is_pruned_without_data_to_a_smaller_file(file: Path) -> None:
    out = run(file, target="macs", ratio=0.5)
    before, after = cost(load_keras(file)), cost(load_keras(out / "model.keras"))
    assert 0.4 * before.macs < after.macs <= 0.5 * before.macs
    assert sorted(path.name for path in out.iterdir()) == ["cost.json", "model.keras", "plan.json", "plan.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 2}, "a model file is pruned without training: set prune.steps=1"),
        ({"weights": "random"}, "a model file is pruned without training"),
        ({"sparse": SparseConfig("bn_scale")}, "a model file is pruned without training"),
        ({"criterion": "apoz"}, "criterion apoz judges by inputs, and none are given"),
        ({"keep": ["c"]}, "keep: no group .* matches 'c'"),
        ({"ratio": 0.1, "round_to": 64}, "the plan is empty: with ratio=0.1"),
    ],
)
def test_what_a_file_alone_cannot_have_is_refused(file: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        run(file, **options)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_model_is_refused_by_name(file: Path) -> None:
    (file.parent / "text.keras").write_text("text")
    with pytest.raises(ValueError, match=r"model\.path: \S+text\.keras is no \.keras file"):
        run(file.parent / "text.keras")
    with pytest.raises(FileNotFoundError, match=r"model\.path: no file \S+none\.keras"):
        run(file.parent / "none.keras")


def composed(*overrides: str) -> Any:
    from hydra import compose, initialize_config_module

    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        return validate(compose("slimcam", list(overrides)))


def test_with_a_file_there_is_one_stage_that_depends_on_its_content(file: Path) -> None:
    config = composed("stages=[prune]", f"model.path={file}")
    (stage,) = stages_of(config)
    assert (stage.name, stage.sections, stage.inputs) == ("prune", ("model", "prune"), ())
    before = steps(config)["prune"].key
    assert steps(composed("stages=[prune]", f"model.path={file}", "data.identities=7"))["prune"].key == before
    file.write_bytes(file.read_bytes() + b" ")
    assert steps(config)["prune"].key != before
    with pytest.raises(ValueError, match=r"model\.path: a model file is pruned and no more; set stages=\[prune\]"):
        stages_of(composed(f"model.path={file}"))


def test_a_latency_depends_on_the_target_and_nothing_else_does() -> None:
    def key(*overrides: str) -> str:
        return steps(composed(*overrides))["prune"].key

    assert key("benchmark=snapdragon_625") == key()
    milliseconds = ("prune.target=latency", "prune.budget=20")
    assert key(*milliseconds, "benchmark=snapdragon_625") != key(*milliseconds)

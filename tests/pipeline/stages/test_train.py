"""What the train stage adds to a fit: phases."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest

from slimcam.pipeline.stages import train
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.synthetic import SyntheticConfig
from slimcam.training.data.recognition.teacher_targets import TeacherTargets
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.files import load_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition.config import LossConfig, TeacherConfig, TrainConfig
from slimcam.training.tasks.recognition.model import ModelConfig

DATA = SyntheticConfig(
    identities=4, images_per_identity=4, test_identities=2, test_images_per_identity=3, test_pairs=4, workers=1
)
FIT = {"epochs": 2.0, "batch_size": 8, "learning_rate": 0.05, "log_seconds": 0.0, "checkpoint_seconds": 0.0}
PHASE = {"epochs": 1.0, "batch_size": 4, "sizes": [16, 32], "optimizer": "adamw", "learning_rate": 0.001}


@dataclass(frozen=True)
class Stage:
    """A train stage of a small network, whose teacher tells the mean colors of an image."""

    folder: Path
    cache: Path

    def run(
        self,
        name: str,
        *,
        attempt: int = 1,
        weights: Path | None = None,
        loss: LossConfig | None = None,
        phases: tuple[dict[str, Any], ...] = (),
        **fit: Any,
    ) -> Path:
        """Runs it in a place of its own; further attempts keep the work and lose the results, as the store does."""
        config = SimpleNamespace(
            data=DATA,
            model=ModelConfig(
                str(self.folder / "backbone.keras"), str(weights) if weights else None, 32, embedding_size=3
            ),
            train=TrainConfig(
                FitConfig(**FIT | fit),
                loss or LossConfig("none", distillation_weight=1.0),
                TeacherConfig(path=str(self.folder / "teacher.onnx"), flip=False),
                workers=1,
                phases=list(phases),
            ),
        )
        out = self.folder / f"{name}-{attempt}"
        out.mkdir()
        train.run(Job(config, {}, out, self.folder / f"{name}-work", self.cache))
        return out


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    (tmp_path / "teacher.onnx").write_bytes(b"a teacher")
    # Few layers: most of the time of so short a training is tracing them.
    inputs = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, use_bias=False)(inputs)
    keras.Model(inputs, keras.layers.ReLU()(keras.layers.BatchNormalization()(x))).save(tmp_path / "backbone.keras")

    def colors(images: Any) -> TeacherTargets:
        return TeacherTargets(images.mean(axis=(1, 2)).astype(np.float32))

    monkeypatch.setattr("slimcam.training.tasks.recognition.teacher.open_teacher", lambda *_: colors)
    return Stage(tmp_path, tmp_path / "cache")


def weights_of(out: Path) -> list[Any]:
    weights: list[Any] = load_keras(out / "model.keras").get_weights()
    return weights


def history_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def test_two_phases_are_two_trainings_of_which_the_second_goes_on_from_the_first(stage: Stage) -> None:
    both = stage.run("both", phases=(PHASE,))
    first = stage.run("first", **PHASE)
    second = stage.run("second", weights=first / "model.keras")
    assert len(weights_of(both)) == len(weights_of(second))
    for ours, theirs in zip(weights_of(both), weights_of(second), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_the_history_counts_on_and_each_phase_has_a_schedule_of_its_own(stage: Stage) -> None:
    out = stage.run("both", phases=(PHASE,))
    history = history_of(out)
    assert [entry["step"] for entry in history] == list(range(1, 9))
    assert [entry["epoch"] for entry in history] == [0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert history[3]["learning_rate"] < 0.001 < history[4]["learning_rate"]
    events = sorted(path.parent.relative_to(out).as_posix() for path in out.rglob("events.*"))
    assert events == ["tensorboard", "tensorboard/phase-1-of-2"]


def test_a_stage_killed_in_its_second_phase_ends_as_if_it_had_not_been_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"phases": (PHASE,), "loss": LossConfig("cosface", distillation_weight=1.0)}
    whole = stage.run("whole", **options)

    class KilledError(Exception):
        pass

    served: list[int] = []
    original = Batches.batch

    def count(self: Batches, step: int, size: int) -> Any:
        served.append(step)
        if len(served) > limit:
            raise KilledError
        return original(self, step, size)

    monkeypatch.setattr(Batches, "batch", count)
    limit = 6  # the four steps of the first phase, and two of the four of the second
    with pytest.raises(KilledError):
        stage.run("killed", **options)
    done = (stage.folder / "killed-work/phase-1-of-2/out/model.keras").stat()
    served.clear()
    limit = 100
    again = stage.run("killed", attempt=2, **options)
    assert min(served) > 0
    assert (stage.folder / "killed-work/phase-1-of-2/out/model.keras").stat() == done
    for ours, theirs in zip(weights_of(again), weights_of(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # Centers of the identities are handed on from phase to phase.
    np.testing.assert_allclose(*(np.load(out / "centres.npz")["kernel"] for out in (again, whole)), atol=1e-5)
    assert [entry["step"] for entry in history_of(again)] == list(range(1, 9))


def test_without_phases_the_scratch_folder_is_that_of_earlier_versions(stage: Stage) -> None:
    stage.run("one")
    assert (stage.folder / "one-work/checkpoint.npz").is_file()


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"epoch": 1.0}, "phases: number 1 has no option 'epoch'; did you mean 'epochs'"),
        ({"epochs": 0.0}, "phases: number 1: epochs must be above 0"),
        ({"epochs": "many"}, "phases: number 1: .*many"),
    ],
)
def test_a_mistake_in_a_phase_names_it(phase: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(phases=[phase])

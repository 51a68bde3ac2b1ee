"""What the prune stage adds to plan and surgery: statistics, steps, and the control of random weights."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from omegaconf import OmegaConf

from slimcam import compression
from slimcam.compression.errors import CompressionError
from slimcam.compression.pruning.config import MagnitudeConfig
from slimcam.compression.pruning.plan import PruningPlan
from slimcam.compression.pruning.surgery import cut
from slimcam.pipeline.stages import prune, prune_magnitude, sensitivity
from slimcam.pipeline.stages.check import try_weights
from slimcam.pipeline.stages.config import PruneConfig, SparseConfig
from slimcam.training.data.recognition.batches import Batches
from slimcam.training.data.recognition.faces import Verification
from slimcam.training.data.recognition.synthetic import SyntheticConfig
from slimcam.training.data.sources import load
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.files import load_keras
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition import task
from slimcam.training.tasks.recognition.config import LossConfig, TrainConfig
from slimcam.training.tasks.recognition.model import ModelConfig

L = keras.layers


def dense() -> Any:
    """A residual recognizer of 16-pixel images with trained-looking weights."""
    keras.utils.set_random_seed(5)
    inputs = keras.Input((16, 16, 3))
    x = stem = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 3, strides=2, use_bias=False, name="stem")(inputs)))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(24, 1, use_bias=False, name="inner")(x)))
    x = L.ReLU()(L.Add()([stem, L.BatchNormalization()(L.Conv2D(32, 3, padding="same", name="outer")(x))]))
    x = L.Conv2D(8, 1, name="embedding_conv")(L.GlobalAveragePooling2D(keepdims=True)(x))
    model = keras.Model(inputs, L.Flatten(name="embedding")(x), name="tiny")
    for layer in model.layers:
        for weight in layer.weights:
            if weight.name in ("gamma", "beta"):
                weight.assign(np.random.default_rng(len(weight.path)).uniform(0.5, 1.5, weight.shape))
    return model


@dataclass(frozen=True)
class Stage:
    """A prune stage whose dense model is trained."""

    folder: Path
    cache: Path

    def run(self, name: str = "run", *, attempt: int = 1, function: Any = prune.run, **options: Any) -> Path:
        """Runs it in a place of its own; further attempts keep the work and lose the results, as the store does."""
        fit = {"epochs": 3.0, "batch_size": 8, "learning_rate": 0.05, "log_seconds": 0.0, "checkpoint_seconds": 0.0}
        fit |= options.pop("fit", {})
        pruning = {"ratio": 0.7, "bn_images": 16, "round_to": 4, **options}
        config = SimpleNamespace(
            model=ModelConfig(input_size=16),
            data=SyntheticConfig(
                identities=4,
                images_per_identity=4,
                test_identities=2,
                test_images_per_identity=3,
                test_pairs=4,
                workers=1,
            ),
            train=TrainConfig(workers=1),
            prune=PruneConfig(fit=FitConfig(**fit), **pruning),
        )
        out = self.folder / f"{name}-{attempt}"
        function(Job(config, {"train": self.folder / "train"}, out, self.folder / f"{name}-work", self.cache))
        return out


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def stage(tmp_path: Path, cache: Path) -> Stage:
    folder = tmp_path / "train"
    folder.mkdir()
    dense().save(folder / "model.keras")
    np.savez(folder / "centres.npz", kernel=np.eye(8, 4, dtype=np.float32))
    return Stage(tmp_path, cache)


def shapes(model: Any) -> list[tuple[int, ...]]:
    return [weight.shape for weight in model.get_weights()]


# Too small a rate to move anything: what remains are the cuts alone.
STILL = {"learning_rate": 1e-20, "weight_decay": 0.0}


def test_several_cuts_end_in_the_shape_of_one(stage: Stage) -> None:
    one, three = stage.run("one"), stage.run("three", steps=3, step_epochs=0.5)
    assert shapes(load_keras(three / "model.keras")) == shapes(load_keras(one / "model.keras"))
    assert (three / "cost.json").read_text() == (one / "cost.json").read_text()
    counts = [
        {name: len(kept) for name, kept in PruningPlan.load(out / "plan.json").kept.items()} for out in (one, three)
    ]
    assert counts[0] == counts[1]
    assert min(counts[0].values()) < 16


def test_the_plan_of_several_cuts_tells_which_channels_of_the_dense_model_are_left(stage: Stage) -> None:
    out = stage.run(steps=3, step_epochs=0.5, reconstruct=False, fit=STILL)
    expected = cut(load_keras(stage.folder / "train/model.keras"), PruningPlan.load(out / "plan.json"))
    found = load_keras(out / "model.keras")
    for name in ("stem", "inner", "outer", "embedding_conv"):
        kernel, whole = (model.get_layer(name).get_weights()[0] for model in (found, expected))
        np.testing.assert_allclose(kernel / kernel.std(), whole / whole.std(), rtol=1e-5)


def test_fine_tuning_begins_with_kernels_of_the_norm_of_initial_ones(stage: Stage) -> None:
    found = load_keras(stage.run(fit=STILL) / "model.keras")
    for name in ("stem", "inner", "outer"):
        kernel = found.get_layer(name).get_weights()[0]
        fresh = keras.ops.convert_to_numpy(keras.initializers.GlorotUniform(0)(kernel.shape))
        assert kernel.std() == pytest.approx(fresh.std(), rel=0.2)


def test_channels_are_ranked_again_at_each_cut(stage: Stage) -> None:
    moved = {"learning_rate": 1.0, "clip_norm": 0.0}
    plans = [
        PruningPlan.load(stage.run(name, steps=2, step_epochs=2.0, fit=fit) / "plan.json").kept
        for name, fit in (("still", STILL), ("moved", moved))
    ]
    assert plans[0] != plans[1]


def test_the_history_of_several_cuts_counts_on_to_the_epochs_of_the_fit(stage: Stage) -> None:
    out = stage.run(steps=3, step_epochs=0.5)
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in history] == [1, 2, 3, 4, 5, 6]
    assert [entry["epoch"] for entry in history] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    events = sorted({path.parent.relative_to(out).as_posix() for path in out.rglob("events.*")})
    assert events == ["tensorboard", "tensorboard/cut-1-of-3", "tensorboard/cut-2-of-3"]


def test_each_fine_tuning_goes_on_in_the_data_where_the_one_before_ends(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    stream = Batches.stream

    def recorded(batches: Batches, sizes: list[int], start: int = 0) -> Any:
        taken.extend(range(start, len(sizes)))
        return stream(batches, sizes, start)

    monkeypatch.setattr(Batches, "stream", recorded)
    stage.run(steps=3, step_epochs=0.5)
    assert taken == [0, 1, 2, 3, 4, 5]


def test_a_killed_stage_goes_on_in_its_step_and_ends_as_if_it_had_not_been_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"steps": 2, "step_epochs": 1.0, "loss": LossConfig("cosface", distillation_weight=1.0)}
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
    limit = 5  # two steps of the first fine-tuning, and the first three of the four of the second are prepared
    with pytest.raises(KilledError):
        stage.run("killed", **options)
    done = (stage.folder / "killed-work/cut-1-of-2/out/model.keras").stat()
    served.clear()
    limit = 100
    again = stage.run("killed", attempt=2, **options)
    assert min(served) > 0
    assert (stage.folder / "killed-work/cut-1-of-2/out/model.keras").stat() == done
    assert (again / "plan.json").read_text() == (whole / "plan.json").read_text()
    ours, theirs = (load_keras(out / "model.keras").get_weights() for out in (again, whole))
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    np.testing.assert_allclose(*(np.load(out / "centres.npz")["kernel"] for out in (again, whole)), atol=1e-5)
    steps = [[json.loads(line)["step"] for line in (out / "history.jsonl").open()] for out in (again, whole)]
    assert steps[0] == steps[1]


def test_random_weights_take_nothing_over_but_the_shape(stage: Stage) -> None:
    loss = LossConfig("cosface", distillation_weight=1.0)
    kept = stage.run("kept", fit=STILL, loss=loss)
    drawn = [stage.run(name, fit=STILL, loss=loss, weights="random") for name in ("first", "second")]
    models = [load_keras(out / "model.keras") for out in (kept, *drawn)]
    assert shapes(models[0]) == shapes(models[1])
    for name in ("stem", "inner", "outer", "embedding_conv"):
        taken, first, second = (model.get_layer(name).get_weights()[0] for model in models)
        np.testing.assert_array_equal(first, second)
        # Nothing in common with the channels that were kept, nor with any other of the dense model.
        assert not np.isin(first, dense().get_layer(name).get_weights()[0]).any()
        assert abs(np.corrcoef(first.ravel(), taken.ravel())[0, 1]) < 0.5
    centers = [np.load(out / "centres.npz")["kernel"] for out in (kept, drawn[0])]
    np.testing.assert_allclose(centers[0], np.eye(8, 4), atol=1e-6)
    assert np.abs(centers[1] - np.eye(8, 4)).max() > 0.1


def test_a_converted_network_goes_on_learning(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The dense model's weights count for nothing then, nor does the choice of channels: only the shape does."""
    first = stage.run("first", weights="random", fit=STILL)
    file = stage.folder / "first.tflite"
    file.write_bytes(compression.float_tflite(load_keras(first / "model.keras")))
    with caplog.at_level("INFO"):
        again = stage.run("again", weights=str(file), fit=STILL)
    assert f"weights of {file}" in caplog.text
    images = np.random.default_rng(0).uniform(-1, 1, (4, 16, 16, 3)).astype(np.float32)
    ours, theirs = (load_keras(out / "model.keras").predict(images, verbose=0) for out in (again, first))
    np.testing.assert_allclose(ours, theirs, atol=0.05)  # statistics are of other batches


def test_a_converted_network_of_another_shape_is_refused_before_any_training(tmp_path: Path) -> None:
    file = tmp_path / "lean.tflite"
    file.write_bytes(compression.float_tflite(compression.prune(dense(), ratio=0.7, round_to=4).model))
    images = [np.zeros((1, 16, 16, 3), np.float32)]
    fitting, other = (PruneConfig(ratio=0.7, round_to=multiple, weights=str(file)) for multiple in (4, 16))
    try_weights(dense(), fitting, [file], images)
    with pytest.raises(CompressionError, match="inner reads 16 channels, that of the file 8: the model must"):
        try_weights(dense(), other, [file], images)


@pytest.mark.parametrize("criterion", ["taylor", "fisher", "hessian", "activation"])
def test_criteria_that_need_data_get_those_of_the_task(stage: Stage, criterion: str) -> None:
    """The dense model's loss: CosFace with the centers that training left."""
    out = stage.run(criterion=criterion, criterion_images=8, fit=STILL)
    kept = PruningPlan.load(out / "plan.json").kept
    assert kept != PruningPlan.load(stage.run("l2", fit=STILL) / "plan.json").kept
    assert (out / "plan.png").stat().st_size > 1000


def test_a_plan_is_applied_again_and_refused_for_another_model(stage: Stage) -> None:
    first = stage.run("first", criterion="random", fit=STILL)
    again = stage.run("again", plan=str(first / "plan.json"), fit=STILL)
    ours, theirs = (PruningPlan.load(out / "plan.json") for out in (again, first))
    assert ours == theirs
    assert ours.reasons == {"model output": 8}
    (first / "plan.json").write_text((first / "plan.json").read_text().replace('"stem"', '"stern"'))
    with pytest.raises(ValueError, match="for another model: this one has no channel group 'stern'"):
        stage.run("refused", plan=str(first / "plan.json"))


def test_widths_follow_the_schedule(stage: Stage) -> None:
    widths = {}
    for schedule in ("geometric", "linear", "polynomial"):
        out = stage.run(schedule, steps=2, step_epochs=0.5, schedule=schedule, round_to=1, ratio=0.75, fit=STILL)
        half = load_keras(stage.folder / f"{schedule}-work/cut-1-of-2/out/model.keras")
        widths[schedule] = half.get_layer("inner").filters
        assert load_keras(out / "model.keras").get_layer("inner").filters == 6
    assert widths == {"geometric": 12, "linear": 15, "polynomial": 8}


def test_sparse_training_comes_first_and_takes_some_of_the_epochs(stage: Stage) -> None:
    sparse = SparseConfig("group_lasso", strength=1e-3, epochs=1.0)
    out = stage.run(sparse=sparse)
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert history[-1]["epoch"] == 3.0
    trained = load_keras(stage.folder / "run-work/sparse/out/model.keras")
    assert shapes(trained) == shapes(dense())
    assert all(weight.regularizer is None for weight in trained.trainable_variables)
    assert (out / "tensorboard/sparse").is_dir()
    plain = stage.run("plain", fit={"epochs": 2.0})
    assert PruningPlan.load(plain / "plan.json").sizes == PruningPlan.load(out / "plan.json").sizes


def test_sensitivity_is_told_group_by_group_with_ratios_that_lose_alike(stage: Stage) -> None:
    out = stage.run("sensitivity", function=sensitivity.run, criterion_images=8, round_to=2)
    found = json.loads((out / "sensitivity.json").read_text())
    assert found["measure"] == "fidelity"
    assert found["whole"] == pytest.approx(1)
    assert {name: len(left) for name, left in found["left"].items()} == {"stem": 4, "inner": 4}
    ratios = OmegaConf.load(out / "ratios.yaml").prune.ratios
    assert sum(ratios[name] * size for name, size in found["sizes"].items()) == pytest.approx(0.7 * 56, rel=0.02)
    assert (out / "sensitivity.png").stat().st_size > 1000
    again = stage.run("with-ratios", ratios=dict(ratios), fit=STILL)
    assert PruningPlan.load(again / "plan.json").counts["stem"] == round((1 - ratios["stem"]) * 32 / 4) * 4


@pytest.mark.parametrize("weights", ["kept", "random"])
def test_fine_tuning_is_validated_with_the_statistics_that_the_result_has(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, weights: str
) -> None:
    def with_held_out(*arguments: Any) -> Any:
        data = load(*arguments)
        return replace(data, held_out=(Verification(data.test, data.pairs),))

    def statistics(model: Any) -> list[Any]:
        return [np.array(weight) for layer in model.layers for weight in layer.non_trainable_weights]

    evaluated: list[Any] = []
    monkeypatch.setattr(task, "load", with_held_out)
    monkeypatch.setattr(task, "held_out_accuracy", lambda *_: lambda model: evaluated.append(statistics(model)) or 0.5)
    out = stage.run(weights=weights, fit={**STILL, "validations": 1})
    expected = statistics(load_keras(out / "model.keras"))
    assert len(evaluated) == 1
    assert len(evaluated[0]) == 6
    for ours, theirs in zip(evaluated[0], expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_kept_channels_and_weights_that_are_zero_in_int8_are_events(stage: Stage) -> None:
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    out = stage.run()
    values = {
        (value.tag, event.step > 0): value.simple_value
        for path in (out / "tensorboard").glob("events*")
        for event in LegacyEventFileLoader(str(path)).Load()
        for value in event.summary.value
    }
    plan = PruningPlan.load(out / "plan.json")
    assert {(tag, after): value for (tag, after), value in values.items() if tag.startswith("channels/")} == {
        **{(f"channels/{name}", False): size for name, size in plan.sizes.items()},
        **{(f"channels/{name}", True): len(channels) for name, channels in plan.kept.items()},
    }
    assert 0 <= values["zero_in_int8/inner/kernel", True] < 0.2


def test_single_weights_become_zero_and_a_killed_stage_goes_on_with_its_zeros(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {
        "function": prune_magnitude.run,
        "method": "magnitude",
        "keep": ["first"],
        "magnitude": MagnitudeConfig(frequency=1),
        "fit": {"validations": 1},
    }
    out = stage.run("weights", **options)
    zeros = {name: zero / size for name, (zero, size) in json.loads((out / "zeros.json").read_text()).items()}
    assert zeros == {"stem": 0, **{name: pytest.approx(0.7, abs=0.01) for name in ("inner", "outer", "embedding_conv")}}
    assert shapes(load_keras(out / "model.keras")) == shapes(load_keras(stage.folder / "train/model.keras"))
    plan = PruningPlan.load(out / "plan.json")
    assert (plan.removed, plan.reasons) == (0.0, {"single weights are pruned": sum(plan.reasons.values())})
    assert list((out / "tensorboard/sparsity").glob("events.*"))

    class KilledError(Exception):
        pass

    original, served = Batches.batch, [0]

    def count(self: Batches, step: int, size: int) -> Any:
        served[0] += 1
        if served[0] > 5:
            raise KilledError
        return original(self, step, size)

    monkeypatch.setattr(Batches, "batch", count)
    with pytest.raises(KilledError):
        stage.run("killed", **options)
    served[0] = -100
    again = stage.run("killed", attempt=2, **options)
    for ours, theirs in zip(*(load_keras(found / "model.keras").get_weights() for found in (again, out)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)

"""The quantize stage: what each scheme leaves, and which layers are an exception to it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

import keras
import numpy as np
import pytest

from slimcam.compression.quantization import qat
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.pipeline.stages import quantize
from slimcam.pipeline.stages.config import QuantizeConfig
from slimcam.training.data.recognition.synthetic import SyntheticConfig
from slimcam.training.fit.config import FitConfig
from slimcam.training.tasks.job import Job
from slimcam.training.tasks.recognition.config import TrainConfig
from slimcam.training.tasks.recognition.model import ModelConfig
from slimcam.training.tasks.recognition.task import Recognition

L = keras.layers


def pruned() -> Any:
    keras.utils.set_random_seed(5)
    inputs = keras.Input((16, 16, 3))
    x = short = L.ReLU(name="re_lu")(L.Conv2D(8, 3, strides=2, name="stem")(inputs))
    x = L.ReLU(name="joined")(L.Add(name="add")([L.Conv2D(8, 3, padding="same", name="inner")(x), short]))
    x = L.Conv2D(8, 1, name="embedding_conv")(L.GlobalAveragePooling2D(keepdims=True)(x))
    return keras.Model(inputs, L.Flatten(name="embedding")(x), name="tiny")


@dataclass(frozen=True)
class Stage:
    """A quantize stage behind a model that is trained and pruned."""

    folder: Path
    cache: Path

    def run(self, name: str = "run", **options: Any) -> Path:
        fit = FitConfig(epochs=1.0, batch_size=8, learning_rate=0.05, log_seconds=0.0)
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
            quantize=QuantizeConfig(fit=fit, calibration_images=16, **options),
        )
        out = self.folder / name
        out.mkdir()
        inputs = dict.fromkeys(("train", "prune"), self.folder / "model")
        quantize.run(Job(config, inputs, out, self.folder / f"{name}-work", self.cache))
        return out


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def stage(tmp_path: Path, cache: Path) -> Stage:
    (tmp_path / "model").mkdir()
    pruned().save(tmp_path / "model/model.keras")
    return Stage(tmp_path, cache)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """The events of all files of a folder."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    found: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.glob("events*")):
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return {tag: sorted(values) for tag, values in found.items()}


def scheme(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "scheme.json").read_text())
    return found


def test_scheme_without_training_leaves_a_file_and_no_history(stage: Stage) -> None:
    out = stage.run(scheme="ptq_int8", layers={"in*": "float"})
    assert Interpreter(out / "model.tflite").input.dtype == np.int8
    assert (out / "history.jsonl").read_text() == ""
    assert scheme(out)["layers"] == {"inner": "float"}


def test_what_each_layer_loses_is_told_before_and_after_training(stage: Stage) -> None:
    out = stage.run()
    told = json.loads((out / "layers.json").read_text())
    assert told["own"]
    assert told["layers"]["inner"]["before"]["sqnr_db"] > 20
    assert told["layers"]["re_lu"]["limits"][0] == 0
    events = scalars(out / "tensorboard")
    assert events["sqnr_db/inner"] == [(0, pytest.approx(told["layers"]["inner"]["before"]["sqnr_db"])), (2, ANY)]
    assert events["range/re_lu/high"] == [(2, pytest.approx(told["layers"]["re_lu"]["limits"][1]))]
    assert "loss" in events


def test_without_training_a_layers_error_is_that_of_the_file(stage: Stage) -> None:
    told = json.loads((stage.run(scheme="weights_int8") / "layers.json").read_text())
    assert not told["own"]
    assert told["layers"]["inner"]["before"] is None
    assert 20 < told["layers"]["inner"]["error"]["sqnr_db"] < 80


def test_learning_rates_by_pattern_reach_the_training(stage: Stage) -> None:
    kernels = {}
    for name, factors in {"still": {"*": 0.0}, "scaled": {"first": 0.0, "last": 0.1}, "plain": {}}.items():
        model = qat.load(stage.run(name, learning_rates=factors) / "model.h5")
        kernels[name] = {
            each.layer.name: each._weight_vars[0][0].numpy() for each in qat.wrappers(model) if each._weight_vars
        }

    def moved(name: str, layer: str) -> float:
        return float(np.abs(kernels[name][layer] - kernels["still"][layer]).max())

    assert moved("scaled", "stem") == 0
    assert min(moved("plain", "stem"), moved("scaled", "inner")) > 0
    assert 0 < moved("scaled", "embedding_conv") < 0.2 * moved("plain", "embedding_conv")


def test_float_layers_of_quantization_aware_training(stage: Stage) -> None:
    out = stage.run(layers={"first": "float"})
    model = qat.load(out / "model.h5")
    quantized = {each.layer.name: len(each._weight_vars) for each in qat.wrappers(model)}
    assert (quantized["stem"], quantized["inner"]) == (0, 1)
    assert scheme(out) == {
        "scheme": "qat_int8",
        "numbers": "int8 weights and activations, trained",
        "layers": {"stem": "float"},
    }


@pytest.mark.parametrize(("needed", "kept"), [(0.0, 0), (0.6, 2), (1.0, 4)])
def test_mixed_keeps_as_few_operators_float_as_reach_the_accuracy(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, needed: float, kept: int
) -> None:
    """Both models are right throughout; a file is right in a share of cases that each float operator adds to."""
    floats: list[int] = []
    made = quantize.post_training.quantized

    def counted(content: bytes, *arguments: Any, **options: Any) -> bytes:
        if len(arguments) > 2:
            floats.append(len(arguments[2]))
        return made(content, *arguments, **options)

    def validate(_: Any, outputs: Any, __: Any) -> float:
        return floats[-1] * 0.3 if hasattr(outputs, "__self__") else 1.0

    monkeypatch.setattr(quantize.post_training, "quantized", counted)
    monkeypatch.setattr(Recognition, "validate", validate)
    out = stage.run(scheme="mixed", accuracy_loss=100 * (1 - needed))
    assert floats[-1] == kept
    assert bool(scheme(out)["layers"]) == bool(kept)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "int8"}, "scheme is one of qat_int8, ptq_int8, mixed"),
        ({"layers": {"stem": "int4"}}, "layers.stem is one of int8, int8 weights, float"),
        ({"layers": {"stem": "int8 weights"}}, "qat_int8 has layers that are int8 or float"),
        ({"scheme": "none", "layers": {"stem": "float"}}, "nothing is quantized with scheme=none"),
        ({"scheme": "float16", "learning_rates": {"last": 0.1}}, "nothing is trained with scheme=float16"),
        ({"fit": FitConfig(optimizer="muon")}, "quantization-aware training is done by tf_keras"),
        ({"learning_rates": {"last": -1.0}}, "factors from 0 on"),
        ({"input_range": [0.5, 1.0]}, "input_range is a value up to 0 and one above it"),
        ({"percentile": 5.0}, "percentile is above 50"),
        ({"scheme": "mixed"}, "scheme=mixed needs accuracy_loss"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        QuantizeConfig(**options)


def test_pattern_without_a_layer_ends_the_stage(stage: Stage) -> None:
    with pytest.raises(ValueError, match="no layer of the model is called 'outer'"):
        stage.run(scheme="ptq_int8", layers={"outer": "float"})

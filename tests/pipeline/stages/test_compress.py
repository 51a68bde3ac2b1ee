"""A model file alone: no task, no training; what it takes, what it refuses, and the one file that comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import keras
import numpy as np
import pytest
from hydra import compose as compose_config
from hydra import initialize_config_module

from slimcam.compression.pruning.cost import cost
from slimcam.compression.quantization.schemes import default_scheme
from slimcam.deploy.latency.host import HostConfig, measure_on_host
from slimcam.pipeline.config import register, validate
from slimcam.pipeline.stages import compress
from slimcam.pipeline.stages.config import QuantizeConfig, untrained_words
from slimcam.pipeline.stages.file_config import FilePruneConfig, ModelFileConfig, refuse_words_without_effect
from slimcam.pipeline.steps import steps
from slimcam.training.data.samples import SamplesConfig
from slimcam.training.fit.config import FitConfig
from slimcam.training.fit.files import load_keras
from slimcam.training.tasks.job import Job

L = keras.layers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file and photos."""
    folder = tmp_path_factory.mktemp("files")
    keras.utils.set_random_seed(0)
    inputs = keras.Input((16, 24, 3))
    x = L.ReLU()(L.Conv2D(32, 3, name="a")(inputs))
    x = L.ReLU()(L.Conv2D(32, 3, name="b")(x))
    x = L.GlobalAveragePooling2D()(x)
    keras.Model(inputs, [L.Dense(10, activation="softmax", name="kind")(x), L.Dense(4, name="box")(x)]).save(
        folder / "mine.keras"
    )
    (folder / "photos/deep").mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (6, 30, 40, 3)).astype(np.uint8)
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"photos/deep/{number}.png"), image)
    (folder / "photos/broken.jpg").write_text("no image")
    return folder


def configured(file: Path, **sections: Any) -> Any:
    """The configuration of `slimcam compress`, with the options that are given by section."""
    given = {name: sections.get(name, {}) for name in ("data", "model", "prune", "quantize")}
    root = given["data"].get("root")
    return SimpleNamespace(
        stages=sections.get("stages", ["compress"]),
        data=SamplesConfig(**given["data"]),
        model=ModelFileConfig(**{"path": str(file), **given["model"]}),
        prune=FilePruneConfig(**given["prune"]),
        quantize=QuantizeConfig(**{"scheme": default_scheme(root).value, **given["quantize"]}),
        benchmark=sections.get("benchmark", "host"),
    )


@pytest.fixture
def run(tmp_path: Path, folder: Path) -> Callable[..., Path]:
    def of_file(**sections: Any) -> Path:
        config = configured(folder / "mine.keras", **sections)
        steps(config)  # refuses what does not go together
        out = tmp_path / "out"
        compress.run(Job(config, {}, out, tmp_path / "work", tmp_path / "cache"))
        return out

    return of_file


def test_a_file_without_images_gets_int8_weights_and_is_measured_alone(run: Callable[..., Path]) -> None:
    out = run()
    assert sorted(path.name for path in out.iterdir()) == ["compressed.json", "model.tflite", "summary.txt"]
    facts = json.loads((out / "compressed.json").read_text())
    assert facts["scheme"] == "weights_int8"
    assert facts["fidelity_on"] == "16 random inputs from -1 to 0.992188"
    assert [each["output"] for each in facts["fidelity"]] == ["kind", "box"]
    assert all(each["least"] > 0.999 for each in facts["fidelity"])
    (record,) = measure_on_host({"mine": out / "model.tflite"}, HostConfig(samples=2, seconds=0.0))
    assert record.samples == 2


def test_a_file_with_images_is_pruned_and_calibrated_by_them(
    run: Callable[..., Path], folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, model = {"root": str(folder / "photos")}, {"pixels": "zero_one"}
    out = run(data=data, model=model, prune={"target": "macs", "ratio": 0.5})
    before, after = cost(load_keras(folder / "mine.keras")), cost(load_keras(out / "model.keras"))
    assert 0.4 * before.macs < after.macs <= 0.5 * before.macs
    assert {"cost.json", "plan.json", "plan.png"} <= {path.name for path in out.iterdir()}
    assert caplog.text.count("broken.jpg: not a readable image") == 1
    summary = (out / "summary.txt").read_text()
    assert "ptq_int8" in summary
    assert "on 6 samples" in summary
    assert "no weight was trained after the cut" in summary


def test_what_a_file_alone_cannot_have_is_refused_in_one_line(run: Callable[..., Path], folder: Path) -> None:
    (folder / "model.pt").write_text("")
    (folder / "empty").mkdir()
    photos, raw = {"root": str(folder / "photos")}, {"pixels": "raw"}
    alone: list[tuple[dict[str, Any], str]] = [
        ({"data": photos}, "model.pixels is required with data.root"),
        ({"data": {"root": "none"}, "model": raw}, "data.root: no folder none"),
        ({"data": {"root": str(folder / "empty")}, "model": raw}, "data.root: no image in .*empty or below it"),
        ({"quantize": {"scheme": "ptq_int8"}}, "quantize: ptq_int8 takes the ranges of activations from samples"),
        ({"quantize": {"scheme": "qat_int8"}}, "quantize: qat_int8 is trained, .* take one of ptq_int8,"),
        ({"prune": {"target": "macs"}}, "prune.target=macs: say how much goes"),
        ({"prune": {"criterion": "l1"}}, "prune.criterion=l1: say how much goes"),
        ({"prune": {"plan": "plan.json", "ratio": 0.5}}, "prune.ratio=0.5 has no effect: prune.plan names"),
        ({"quantize": {"fit": FitConfig(epochs=9.0)}}, "quantize.fit has no effect: .* is not trained; leave it out"),
        ({"quantize": {"teacher": "external"}}, "quantize.teacher=external has no effect"),
        ({"quantize": {"accuracy_loss": 1.0}}, "quantize.accuracy_loss=1.0 has no effect: .* no accuracy"),
        ({"quantize": {"percentile": 99.0}}, "percentile=99.0 has no effect: weights_int8 has no ranges"),
        ({"prune": {"ratio": 0.5, "criterion": "apoz"}}, "criterion apoz needs inputs, and none are given"),
        ({"prune": {"ratio": 0.5, "keep": ["c"]}}, "keep: no group .* matches 'c'"),
        ({"quantize": {"scheme": "float16", "layers": {"c": "float"}}}, "no layer of the model is called 'c'"),
        ({"stages": ["prune"]}, "a model file has no stages of its own: slimcam compress"),
        ({"model": {"input_size": 32}}, r"model\.path: .*mine\.keras takes 16x24 pixels, not 32x32"),
        ({"model": {"path": "none.keras"}}, r"model\.path: there is no file or folder none\.keras"),
        (
            {"model": {"path": str(folder / "model.pt")}},
            r"model\.path: .*model\.pt is neither a \.keras nor a \.h5 file",
        ),
        ({"model": {"path": photos["root"]}}, r"model\.path: .*photos is a folder without saved_model\.pb"),
    ]
    for sections, message in alone:
        with pytest.raises((ValueError, OSError), match=message) as error:
            run(**sections)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train.fit.epochs=3"], "train.fit.epochs has no effect: a model file alone is not trained; leave it out"),
        (["evaluate.gates.size_mb=1"], "evaluate.gates.size_mb has no effect"),
        (["convert.sparse=true"], "convert.sparse has no effect"),
        (["backend=jax"], "backend has no effect: .* always compressed on TensorFlow"),
        (["benchmark=snapdragon_625"], "benchmark has no effect: .* but with prune.target=latency"),
        (["quantize.calibration_images=64"], "quantize.calibration_images has no effect without images"),
    ],
)
def test_words_without_effect_are_refused(words: list[str], message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        refuse_words_without_effect(configured(folder / "mine.keras"), words)


def test_words_with_an_effect_are_not(folder: Path) -> None:
    latency = configured(folder / "mine.keras", prune={"target": "latency", "budget": "2x"})
    refuse_words_without_effect(latency, ["task=compress", "model.path=my.keras", "benchmark=snapdragon_625"])
    images = configured(folder / "mine.keras", data={"root": "photos"}, model={"pixels": "raw"})
    refuse_words_without_effect(images, ["+quantize.calibration_images=64", "quantize.percentile=99"])


def test_what_a_scheme_without_training_does_not_read_is_told() -> None:
    words = ["experiment=demo", "quantize=ptq_int8", "quantize.fit.epochs=2", "quantize.percentile=99"]
    (line,) = untrained_words(QuantizeConfig(scheme="ptq_int8"), words)
    assert line.startswith("quantize.fit.epochs has no effect with quantize.scheme=ptq_int8")
    assert not untrained_words(QuantizeConfig(), words)
    assert len(untrained_words(QuantizeConfig(scheme="float16"), words)) == 2


def test_the_one_stage_depends_on_the_content_of_the_file_and_of_the_images(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.keras"
    file.write_bytes((folder / "mine.keras").read_bytes())

    def key(file: Path = file, **sections: Any) -> str:
        (step,) = steps(configured(file, **sections)).values()
        return step.key

    photos: dict[str, Any] = {"data": {"root": str(folder / "photos")}, "model": {"pixels": "raw"}}
    before = key(), key(**photos)
    assert key(folder / "mine.keras", benchmark="snapdragon_625") == before[0]
    latency = {"prune": {"target": "latency", "budget": "5x"}}
    assert key(**latency, benchmark="snapdragon_625") != key(**latency)
    (folder / "photos/new.png").write_bytes((folder / "photos/deep/0.png").read_bytes())
    assert key(**photos) != before[1]
    (folder / "photos/new.png").unlink()
    file.write_bytes(file.read_bytes() + b" ")
    assert key() != before[0]


def test_the_command_chooses_name_and_scheme_by_what_is_given(tmp_path: Path) -> None:
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        alone = validate(compose_config("slimcam", ["task=compress", "model.path='a folder/my.model.keras'"]))
        images = validate(compose_config("slimcam", ["task=compress", "model.path=my.h5", f"data.root={tmp_path}"]))
    assert (alone.name, alone.stages, alone.quantize.scheme) == ("my.model", ["compress"], "weights_int8")
    assert (images.name, images.quantize.scheme, images.quantize.calibration_images) == ("my", "ptq_int8", 128)


@keras.saving.register_keras_serializable("tests")
class Own(keras.Model):
    """A model that does not show its graph."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.only = L.Dense(4)

    def call(self, inputs: Any) -> Any:
        return self.only(inputs)


def test_a_plan_that_cannot_be_had_is_refused_in_one_line(run: Callable[..., Path], tmp_path: Path) -> None:
    own = Own(name="own")
    own(keras.ops.ones((1, 8)))
    own.save(tmp_path / "own.keras")
    refused: list[tuple[dict[str, Any], str]] = [
        ({"prune": {"ratio": 1.0}}, r"^ratio is the share to remove, from 0 to below 1; got 1\.0$"),
        ({"prune": {"ratio": 0.1, "round_to": 64}}, r"^the plan is empty: with ratio=0\.1 rounded to round_to=64"),
        ({"prune": {"target": "macs", "budget": "5"}}, r"5 MACs cannot be reached; .* go down to [\d,]+ MACs, \d+% of"),
        (
            {"prune": {"ratio": 0.5}, "model": {"path": str(tmp_path / "own.keras")}},
            r"own\.keras holds a subclassed model; export it",
        ),
    ]
    for sections, message in refused:
        with pytest.raises(ValueError, match=message) as error:
            run(**sections)
        assert "\n" not in str(error.value)

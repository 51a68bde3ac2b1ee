"""A model file alone: no task, no training; what it takes, what it refuses, and the one file that comes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from slimcam.compression.pruning.cost import cost
from slimcam.deploy.latency.host import HostConfig, measure_on_host
from slimcam.pipeline.config import register, validate
from slimcam.pipeline.stages import compress
from slimcam.pipeline.steps import steps
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


def composed(*overrides: str) -> Any:
    from hydra import compose, initialize_config_module

    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        return validate(compose("slimcam", ["task=compress", *overrides]))


@pytest.fixture
def run(tmp_path: Path, folder: Path) -> Callable[..., Path]:
    def of_file(*overrides: str) -> Path:
        config = composed(f"model.path={folder / 'mine.keras'}", *overrides)
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
    out = run(f"data.root={folder / 'photos'}", "model.pixels=zero_one", "prune.target=macs", "prune.ratio=0.5")
    before, after = cost(load_keras(folder / "mine.keras")), cost(load_keras(out / "model.keras"))
    assert 0.4 * before.macs < after.macs <= 0.5 * before.macs
    assert {"cost.json", "plan.json", "plan.png"} <= {path.name for path in out.iterdir()}
    assert caplog.text.count("broken.jpg: not a readable image") == 1
    summary = (out / "summary.txt").read_text()
    assert "ptq_int8" in summary
    assert "on 6 samples" in summary
    assert "no weight was trained after the cut" in summary


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data.root=PHOTOS"], "model.pixels is required with data.root"),
        (["data.root=FOLDER/none", "model.pixels=raw"], "data.root: no folder .*none"),
        (["data.root=FOLDER/photos/deep/empty", "model.pixels=raw"], "data.root: no image in .*empty or below it"),
        (["quantize=ptq_int8"], "quantize: ptq_int8 takes the ranges of activations from samples, and none are given"),
        (["quantize=qat_int8"], "quantize: qat_int8 is trained, and here is a model alone; take one of ptq_int8,"),
        (["quantize=mixed"], "quantize: mixed is judged by the accuracy of a task"),
        (["prune.target=macs"], "prune: target=macs: say how much goes"),
        (["prune.ratio=0.5", "prune.criterion=apoz"], "criterion apoz judges by inputs, and none are given"),
        (["prune.ratio=0.5", "prune.keep=[c]"], "keep: no group .* matches 'c'"),
        (["quantize.layers={c: float}"], "no layer of the model is called 'c'"),
        (["stages=[prune]"], "a model file has no stages of its own: slimcam compress"),
        (["model.input_size=32"], r"model\.path: .*mine\.keras takes 16x24 pixels, not 32x32"),
        (["model.path=FOLDER/none.keras"], r"model\.path: there is no file or folder .*none\.keras"),
        (["model.path=FOLDER/model.pt"], r"model\.path: .*model\.pt is neither a \.keras nor a \.h5 file"),
        (["model.path=PHOTOS"], r"model\.path: .*photos is a folder without saved_model\.pb"),
    ],
)
def test_what_a_file_alone_cannot_have_is_refused_in_one_line(
    run: Callable[..., Path], folder: Path, options: list[str], message: str
) -> None:
    (folder / "model.pt").write_text("")
    (folder / "photos/deep/empty").mkdir(exist_ok=True)
    words = [each.replace("PHOTOS", f"{folder}/photos").replace("FOLDER", str(folder)) for each in options]
    with pytest.raises((ValueError, OSError), match=message) as error:
        run(*words)
    assert "\n" not in str(error.value)


def test_the_one_stage_depends_on_the_content_of_the_file_and_of_the_images(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "other name.keras"
    file.write_bytes((folder / "mine.keras").read_bytes())

    def key(*overrides: str) -> str:
        (step,) = steps(composed(f"model.path='{file}'", *overrides)).values()
        return step.key

    photos = (f"data.root={folder / 'photos'}", "model.pixels=raw")
    before = key(), key(*photos)
    assert composed(f"model.path='{file}'").name == "other name"
    assert (key("train.seed=3", "benchmark=snapdragon_625"), key(*photos)) == before
    latency = ("prune.target=latency", "prune.budget=5x")
    assert key(*latency, "benchmark=snapdragon_625") != key(*latency)
    (folder / "photos/new.png").write_bytes((folder / "photos/deep/0.png").read_bytes())
    assert key(*photos) != before[1]
    (folder / "photos/new.png").unlink()
    file.write_bytes(file.read_bytes() + b" ")
    assert key() != before[0]

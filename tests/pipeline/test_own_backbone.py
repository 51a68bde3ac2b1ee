"""A backbone of the user's own: every stage imports its module with its layers, and its source is part of the keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from slimcam.pipeline.config import register, validate
from slimcam.pipeline.steps import steps

SOURCE = '''
import keras

from slimcam import compression


@keras.saving.register_keras_serializable("mynet")
class Scale(keras.layers.Layer):
    """All channels times a factor."""

    def __init__(self, factor, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


compression.register_layer(
    Scale,
    compression.LayerSpec(
        lambda tracker, call: call.inputs[0],
        macs=compression.no_macs,
        homogeneous=True,
        int8=lambda layer, parts: parts(keras.layers.Rescaling, layer.factor),
    ),
)


def custom(input_shape, width):
    image = keras.Input(input_shape)
    x = keras.layers.Conv2D(width, 3, strides=2, use_bias=False)(image)
    x = Scale(0.5)(keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
    x = keras.layers.Conv2D(width, 3, strides=2, use_bias=False)(x)
    return keras.Model(image, keras.layers.ReLU()(keras.layers.BatchNormalization()(x)))
'''


def train_key(backbone: str) -> str:
    register()
    with initialize_config_module("slimcam.conf", version_base=None):
        composed = compose("slimcam", ["experiment=demo", f"model.backbone='{backbone}'"])
    return steps(validate(composed))["train"].key


def test_layer_of_the_users_own_goes_through_all_stages(tmp_path: Path) -> None:
    (tmp_path / "mynet.py").write_text(SOURCE)
    options = (
        "model.backbone='mynet:custom' +model.options.width=16 model.input_size=32 data.identities=4 "
        "data.images_per_identity=4 data.test_identities=4 data.test_pairs=20 train.fit.batch_size=8 "
        "prune.fit.epochs=0.1 prune.fit.batch_size=8 prune.bn_images=8 quantize.fit.epochs=0.1 "
        "quantize.fit.batch_size=8 quantize.calibration_images=8 convert.fidelity_images=4 "
        "stages=[check,train,prune,quantize,convert]"
    )
    ended = subprocess.run(
        [sys.executable, "-m", "slimcam.pipeline.cli", "debug=fast", *options.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.glob("runs/store/convert/*/quantized/model.tflite"))


def test_editing_the_source_of_a_builder_changes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "edited_net.py").write_text(SOURCE)
    package = tmp_path / "edited_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "nets.py").write_text("from edited_package.layers import *\n")
    (package / "layers.py").write_text(SOURCE)
    before = [train_key(name) for name in ("edited_net:custom", "edited_package.nets:custom")]
    assert [train_key(name) for name in ("edited_net:custom", "edited_package.nets:custom")] == before
    (tmp_path / "edited_net.py").write_text(SOURCE.replace("0.5", "0.25"))
    (package / "layers.py").write_text(SOURCE.replace("0.5", "0.25"))
    after = [train_key(name) for name in ("edited_net:custom", "edited_package.nets:custom")]
    assert not set(after) & set(before)


def test_a_builder_that_is_not_found_has_a_key_all_the_same() -> None:
    assert train_key("no_such_module:custom") == train_key("no_such_module:custom")

"""Recognizers from configurations, and the errors of a wrong one."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import tf_keras

from slimcam.training.tasks.backbone import initial_weights
from slimcam.training.tasks.recognition.config import LossConfig
from slimcam.training.tasks.recognition.losses import classification
from slimcam.training.tasks.recognition.model import ModelConfig, build, with_classifier

SMALL = ModelConfig("MobileNetV2", None, 32, {"alpha": 0.35}, embedding_size=16)


def test_a_recognizer_turns_images_into_embeddings():
    model = build(SMALL)
    assert model.input_shape == (None, 32, 32, 3)
    assert model.output_shape == (None, 16)
    assert [layer.name for layer in model.layers[-4:]] == ["pool", "embedding_conv", "embedding_norm", "embedding"]


@pytest.mark.parametrize("name", ["small_resnet", "training.backbones:small_resnet"])
def test_our_own_backbone_goes_by_its_name_and_by_its_earlier_one(name):
    model = build(ModelConfig(name, None, 32, {"width": 8}, embedding_size=8))
    assert model.name == "small_resnet"
    assert model.output_shape == (None, 8)


def test_a_builder_of_the_users_own_serves_as_backbone(tmp_path, monkeypatch):
    (tmp_path / "own_backbones.py").write_text(
        "import keras\n\n\ndef tiny(input_shape, width):\n"
        "    image = keras.Input(input_shape)\n"
        "    return keras.Model(image, keras.layers.Conv2D(width, 3)(image))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = build(ModelConfig("own_backbones:tiny", None, 32, {"width": 4}, embedding_size=8))
    assert model.name == "tiny"
    assert model.output_shape == (None, 8)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (ModelConfig("ResNet5O"), "did you mean 'ResNet50'"),
        (ModelConfig("MobileNetV2", options={"alfa": 1}), "alfa"),
        (ModelConfig("small_resmet"), "did you mean 'small_resnet'"),
        (ModelConfig("math:none"), "expected module:name of your own"),
        (ModelConfig("nowhere:none"), "expected module:name of your own"),
        (ModelConfig("MobileNetV2", input_size=8), "MobileNetV2"),
    ],
)
def test_a_wrong_backbone_is_one_clear_line(config, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(config)
    assert "\n" not in str(caught.value)


def small(shape: tuple[int | None, ...], count: int = 1) -> keras.Model:
    images = [keras.Input(shape) for _ in range(count)]
    x = images[0] if count == 1 else keras.layers.Add()(images)
    return keras.Model(images, keras.layers.ReLU()(keras.layers.Conv2D(8, 3)(x)))


@pytest.mark.parametrize(
    "backbone",
    [
        small((32, 32, 3)),
        small((None, None, 3)),
        keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(8, 3), keras.layers.ReLU()]),
        keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(8, 3), keras.layers.ReLU()]),
    ],
    ids=["functional", "open size", "sequential", "sequential of open size"],
)
def test_the_backbone_of_a_file_takes_images_of_the_input_size(backbone, tmp_path):
    backbone.save(tmp_path / "own.keras")
    model = build(ModelConfig(str(tmp_path / "own.keras"), None, 32, embedding_size=8))
    assert (model.input_shape, model.output_shape) == ((None, 32, 32, 3), (None, 8))
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    found = keras.Model(model.input, model.get_layer("pool").input)(images)
    np.testing.assert_allclose(found, backbone(images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (small((48, 48, 3)), r"takes 48x48 pixels, but model\.input_size is 32; set model\.input_size=48"),
        (small((48, 32, 3)), "takes 48x32 pixels, .* save it for square images"),
        (small((32, 32, 1)), r"takes \(32, 32, 1\); RGB images"),
        (small((32, 32, 3), 2), "has 2 inputs and 1 outputs"),
        (keras.Sequential([keras.Input((None, None, 3)), keras.layers.Conv2D(8, 40)]), "does not take 32x32 pixels"),
    ],
    ids=["another size", "not square", "grayscale", "two inputs", "too small"],
)
def test_a_file_that_does_not_fit_is_one_clear_line(backbone, message, tmp_path):
    backbone.save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match=rf"model\.backbone own\.keras {message}") as caught:
        build(ModelConfig(str(tmp_path / "own.keras"), None, 32, embedding_size=8))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_clear_line(tmp_path):
    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, Own()(inputs)).save(tmp_path / "own.keras")
    (tmp_path / "half.keras").write_bytes(b"PK half a file")
    for name, message in (
        ("own", "holds a layer that is not of Keras; load the file in a function"),
        ("half", "whole"),
    ):
        with pytest.raises(ValueError, match=message):
            build(ModelConfig(str(tmp_path / f"{name}.keras"), None, 32, embedding_size=8))


def test_training_goes_on_from_a_recognizer_of_the_same_build(tmp_path):
    config = ModelConfig("MobileNetV2", None, 32, {"alpha": 0.35}, embedding_size=8)
    keras.utils.set_random_seed(1)
    trained = build(config)
    trained.save(tmp_path / "trained.keras")
    keras.utils.set_random_seed(2)
    going_on = dataclasses.replace(config, weights=str(tmp_path / "trained.keras"))
    assert initial_weights(going_on) == "those of a model trained before, trained.keras"
    again = build(going_on)
    for value, expected in zip(again.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_weights_of_another_build_are_one_clear_line(tmp_path):
    config = ModelConfig("MobileNetV2", None, 32, {"alpha": 0.35}, embedding_size=8)
    build(config).save(tmp_path / "trained.keras")
    with pytest.raises(ValueError, match=r"model\.weights: .*trained\.keras is not of the model"):
        build(dataclasses.replace(config, weights=str(tmp_path / "trained.keras"), embedding_size=16))


def test_a_damaged_recognizer_is_one_clear_line(tmp_path):
    (tmp_path / "half.keras").write_bytes(b"PK half a file")
    config = ModelConfig("MobileNetV2", str(tmp_path / "half.keras"), 32, {"alpha": 0.35}, embedding_size=8)
    with pytest.raises(ValueError, match=r"model\.weights: .*half\.keras cannot be read"):
        build(config)


@pytest.mark.parametrize(
    "config",
    [ModelConfig(weights="none.weights.h5"), ModelConfig("none.keras"), ModelConfig(weights="none.keras")],
)
def test_a_missing_file_is_named(config):
    with pytest.raises(FileNotFoundError, match=r"none\."):
        build(config)


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_the_classifier_gives_cosines_with_the_centers(module):
    inputs = module.Input((4,))
    model = module.Model(inputs, module.layers.Activation("linear", name="embedding")(inputs))
    kernel = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    outputs = with_classifier(model, 3, kernel, keras=module).predict(x, verbose=0)
    expected = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (kernel / np.linalg.norm(kernel, axis=0))
    np.testing.assert_allclose(outputs["cosines"], expected, atol=1e-5)
    np.testing.assert_allclose(outputs["embedding"], x)


@pytest.mark.parametrize("module", [keras, tf_keras], ids=["keras3", "tf_keras"])
def test_of_several_centers_the_nearest_counts_and_the_norm_may_follow(module):
    inputs = module.Input((4,))
    model = module.Model(inputs, module.layers.Activation("linear", name="embedding")(inputs))
    kernel = np.random.default_rng(0).normal(size=(4, 2 * 3)).astype(np.float32)
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    learner = with_classifier(model, 3, kernel, keras=module, subcenters=2, norms=True)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    cosines = (x / norms) @ (kernel / np.linalg.norm(kernel, axis=0))
    expected = np.hstack([np.maximum(cosines[:, :3], cosines[:, 3:]), norms])
    np.testing.assert_allclose(learner.predict(x, verbose=0)["cosines"], expected, atol=1e-5)
    loss = classification(LossConfig(classification="adaface", margin=0.4, subcenters=2))
    learner.compile(module.optimizers.SGD(0.1), loss={"cosines": loss})
    labels = np.array([0, 1, 2, 0, 1], np.int32)
    history = learner.fit(x, {"cosines": labels}, epochs=20, batch_size=5, verbose=0).history["loss"]
    assert history[-1] < 0.9 * history[0]
    with pytest.raises(ValueError, match="has 6 centers of 4 dimensions, this one 3 of 4; take as many subcenters"):
        with_classifier(model, 3, kernel, keras=module)

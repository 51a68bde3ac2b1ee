"""Backbones: what they read of a pixel, their options, and what is refused in one line."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest

from slimcam.deploy.common.result_key import key_material
from slimcam.deploy.inference.pixels import CONVENTIONS, PixelFormat, normalized
from slimcam.training.tasks.backbone import BackboneConfig, features_of, pixels_of

APPLICATIONS = sorted(name for name in dir(keras.applications) if name[0].isupper())
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 6, 6, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", APPLICATIONS)
def test_imagenet_weights_are_fed_as_keras_feeds_them(name):
    preprocess = sys.modules[getattr(keras.applications, name).__module__].preprocess_input
    expected = np.asarray(preprocess(IMAGE.astype(np.float32)))
    spec = CONVENTIONS[pixels_of(BackboneConfig(name, "imagenet"))]
    # -1 to 1 is of 128 here and of 127.5 there.
    np.testing.assert_allclose(normalized(IMAGE, spec), expected, atol=0.008)


def test_a_backbone_that_rescales_pixels_gets_them_raw_whatever_its_weights():
    config = BackboneConfig("EfficientNetB0", input_size=32)
    assert pixels_of(config) == PixelFormat.RAW
    first = [type(layer).__name__ for layer in features_of(config).layers[:3]]
    assert first == ["InputLayer", "Rescaling", "Normalization"]


def test_what_other_backbones_read_is_as_ever():
    assert pixels_of(BackboneConfig("ResNet50")) == PixelFormat.MINUS_ONE_ONE
    assert pixels_of(BackboneConfig("ResNet50", "own.weights.h5")) == PixelFormat.MINUS_ONE_ONE
    assert pixels_of(BackboneConfig("ResNet50", pixels="zero_one")) == PixelFormat.ZERO_ONE
    with pytest.raises(ValueError, match=r"^pixels is one of minus_one_one, zero_one, caffe, torch, raw; got 'rgb'$"):
        BackboneConfig(pixels="rgb")


def test_results_of_models_that_read_other_pixels_than_before_are_made_again():
    assert "pixels" not in key_material(BackboneConfig("ResNet50"))
    assert "pixels" not in key_material(BackboneConfig("ResNet50", pixels="minus_one_one"))
    assert "pixels" in key_material(BackboneConfig("EfficientNetB0"))
    assert "pixels" in key_material(BackboneConfig("ResNet50", "imagenet"))


def test_a_model_file_that_rescales_pixels_is_not_fed_silently(tmp_path):
    image = keras.Input((16, 16, 3))
    scaled = keras.layers.Rescaling(1 / 255)(image)
    keras.Model(image, keras.layers.Conv2D(4, 3)(scaled)).save(tmp_path / "own.keras")
    with pytest.raises(ValueError, match=r"begins with a Rescaling layer: say what pixels it takes, model\.pixels=raw"):
        features_of(BackboneConfig(str(tmp_path / "own.keras"), input_size=16))
    assert features_of(BackboneConfig(str(tmp_path / "own.keras"), input_size=16, pixels="raw")).output_shape[-1] == 4


def test_a_backbone_without_its_own_preprocessing_is_not_fed_silently():
    config = BackboneConfig("MobileNetV3Small", input_size=32, options={"include_preprocessing": False})
    with pytest.raises(ValueError, match=r"does not rescale pixels here: say what pixels it takes"):
        features_of(config)


def test_options_under_the_name_of_a_backbone_do_not_follow_to_another():
    options = {"small_resnet": {"width": 16}, "MobileNetV2": {"alpha": 0.35}}
    assert BackboneConfig("small_resnet", options=options).options == {"width": 16}
    assert BackboneConfig("training.backbones:small_resnet", options=options).options == {"width": 16}
    assert BackboneConfig("MobileNetV2", options=options).options == {"alpha": 0.35}
    assert BackboneConfig("ResNet50", options=options).options == {}
    assert BackboneConfig("MobileNetV2", options={**options, "alpha": 0.5}).options == {"alpha": 0.5}


def test_an_option_that_a_backbone_lacks_is_named():
    message = r"MobileNetV2: it has no option 'widht' \(model\.options\); known are alpha, name"
    with pytest.raises(ValueError, match=message):
        features_of(BackboneConfig("MobileNetV2", options={"widht": 8}))

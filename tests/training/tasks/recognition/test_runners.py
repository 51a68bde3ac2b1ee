"""One network in each format: the mean of each color, after a convolution that leaves pixels as they are."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import onnx
import pytest
import tensorflow as tf

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.pipeline.verify.macs import count_macs
from slimcam.training.tasks.recognition.runners import RUNNERS, open_runner

FACES = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)
PIXELS = InputSpec(mean=100.0, scale=50.0)
MEANS = ((FACES.astype(np.float32) - 100) / 50).mean(axis=(1, 2))
MACS = 112 * 112 * 9

PARAM = """7767517
3 3
Input        in   0 1 data 0=112 1=112 2=3
Convolution  conv 1 1 data conv 0=3 1=1 5=0 6=9
Pooling      mean 1 1 conv out 0=1 4=1
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    inputs = keras.Input((112, 112, 3), batch_size=1)
    kernel = keras.initializers.Constant(np.eye(3).reshape(1, 1, 3, 3))
    pixels = keras.layers.Conv2D(3, 1, kernel_initializer=kernel)(inputs)
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(pixels))
    model.save(folder / "model.keras")
    (folder / "model.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    weights = onnx.numpy_helper.from_array(np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1), "weights")
    nodes = [
        onnx.helper.make_node("Conv", ["faces", "weights"], ["pixels"]),
        onnx.helper.make_node("GlobalAveragePool", ["pixels"], ["means"]),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("faces", ["n", 3, 112, 112]), ("means", ["n", 3, 1, 1]))
    ]
    graph = onnx.helper.make_graph(nodes, "means", values[:1], values[1:], [weights])
    opset = onnx.helper.make_opsetid("", 17)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8), folder / "model.onnx")
    (folder / "model.param").write_text(PARAM)
    # A mark of float32 weights, then the kernel.
    (folder / "model.bin").write_bytes(bytes(4) + np.eye(3, dtype=np.float32).tobytes())
    return {suffix: folder / f"model{suffix}" for suffix in RUNNERS}


@pytest.fixture(params=list(RUNNERS))
def path(request, models) -> Path:
    if request.param == ".param" and importlib.util.find_spec("ncnn") is None:
        pytest.skip("ncnn is not installed: pip install slimcam[ncnn]")
    return models[request.param]


def test_every_format_gives_the_same_embeddings_to_any_number_of_threads(path):
    runner = open_runner(path, PIXELS)
    assert (runner.height, runner.width) == (112, 112)
    with ThreadPoolExecutor(4) as pool:
        found = np.concatenate([outputs[0] for outputs in pool.map(runner.outputs, np.split(FACES, 5))])
    # ncnn computes in float16 where it can.
    np.testing.assert_allclose(found, MEANS, atol=2e-3)


def test_each_channel_may_have_a_mean_and_a_scale_and_channels_their_order(path):
    mean, scale = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    runner = open_runner(path, InputSpec(mean=mean, scale=scale, order="bgr"))
    expected = ((FACES.astype(np.float32) - np.float32(mean)) / np.float32(scale)).mean(axis=(1, 2))[:, ::-1]
    np.testing.assert_allclose(runner.outputs(FACES)[0], expected, atol=2e-3)


def test_what_is_timed_is_an_inference(path):
    runner = open_runner(path, PIXELS)
    inference = runner.prepared(FACES[0])
    inference()
    np.testing.assert_allclose(runner.outputs(FACES[1:2])[0], MEANS[1:2], atol=2e-3)


def test_multiply_accumulates_are_those_of_the_convolution(path):
    assert count_macs(path, open_runner(path, PIXELS)) == MACS


def test_other_files_are_refused(tmp_path, models):
    with pytest.raises(ValueError, match=r"expected a .tflite, .onnx, .keras or .param file"):
        open_runner(tmp_path / "model.pt", PIXELS)
    with pytest.raises(FileNotFoundError, match="no file"):
        open_runner(tmp_path / "model.onnx", PIXELS)
    with pytest.raises(ValueError, match=r"feature maps are read from .onnx files"):
        open_runner(models[".tflite"], PIXELS, features="pixels")

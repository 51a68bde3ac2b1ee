from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.model import Model
from slimcam.deploy.vision.align import TEMPLATE, face_sizes
from slimcam.deploy.vision.detector import Detector, FaceDetector, YuNet, open_detector
from slimcam.deploy.vision.detector_output import CHANNELS, cell_centers, decode_faces
from slimcam.deploy.vision.letterbox import letterbox

HEIGHT, WIDTH = 96, 128
RECOGNIZER = Path(__file__).parents[3] / "deploy/models/recognizer/model.tflite"

CENTERED = TEMPLATE.astype(np.float64) - TEMPLATE.mean(axis=0)
SPOT_SIZE = 24.0


def face(x: float, y: float, size: float) -> np.ndarray:
    return CENTERED * (size / 72) + (x, y)


def nothing(height: int, width: int) -> np.ndarray:
    rows = np.zeros((len(cell_centers(height, width)), CHANNELS), np.float32)
    rows[:, 0] = -8
    return rows


@pytest.fixture(scope="module")
def float_model() -> bytes:
    return spot_model(HEIGHT, WIDTH, int8=False)


@pytest.fixture(scope="module")
def int8_model() -> bytes:
    return spot_model(HEIGHT, WIDTH, int8=True)


@pytest.fixture(scope="module")
def detector(float_model: bytes) -> FaceDetector:
    return FaceDetector(Model(float_model, InputSpec(HEIGHT, WIDTH)))


# Decoding


@pytest.mark.parametrize("threshold", [0, 1, -0.5, float("nan")])
def test_a_threshold_is_between_0_and_1(threshold: float, float_model: bytes, tmp_path: Path) -> None:
    for call in (
        lambda: decode_faces(nothing(240, 320), 240, 320, threshold),
        lambda: FaceDetector(Model(float_model, InputSpec(HEIGHT, WIDTH)), threshold),
        lambda: YuNet(tmp_path, threshold),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


# Frames


@pytest.mark.parametrize("size", [(96, 128), (480, 640), (250, 250), (333, 457), (48, 64), (721, 1283)])
@pytest.mark.parametrize("int8", [False, True])
def test_points_are_mapped_back_to_the_pixels_of_the_frame(
    size: tuple[int, int], int8: bool, float_model: bytes, int8_model: bytes
) -> None:
    detector: Detector = FaceDetector(Model(int8_model if int8 else float_model, InputSpec(HEIGHT, WIDTH)))
    height, width = size
    scale = letterbox(np.zeros((*size, 3), np.uint8), HEIGHT, WIDTH)[1]
    for row, column in ((0, 0), (4, 9), (2, 7)):
        # The cell's pixels of the input, in the frame: continuous coordinates, with edges at integers.
        x, y = np.array([8.0 * column, 8.0 * row]) / scale
        w, h = 8 / scale
        frame = np.zeros((*size, 3), np.uint8)
        inside = (axis(width, x, w), axis(height, y, h))
        frame[:] = (255 * inside[1][:, np.newaxis] * inside[0])[..., np.newaxis].round()
        faces = detector.detect(frame)
        assert len(faces) == 1
        expected = face(8 * column + 4, 8 * row + 4, SPOT_SIZE) / scale - 0.5
        # One step of the int8 output is 1/16 of 1/8 of the size, of the size itself 2 %.
        tolerance = (0.6 if int8 else 1e-3) / scale.min()
        np.testing.assert_allclose(faces.points[0], expected, atol=tolerance)
        if not int8:
            assert face_sizes(faces.points)[0] == pytest.approx(SPOT_SIZE / scale[0], rel=0.02)


def axis(length: int, start: float, extent: float) -> np.ndarray:
    """How much of each pixel of a row lies in `start`..`start + extent`."""
    pixels = np.arange(length)
    return np.clip(np.minimum(pixels + 1, start + extent) - np.maximum(pixels, start), 0, 1)


def test_a_frame_may_be_a_view(detector: FaceDetector) -> None:
    frame = np.zeros((200, 300, 3), np.uint8)
    frame[40:70, 50:90] = 255
    view = frame[::-1, ::2, ::-1]
    found, expected = detector.detect(view), detector.detect(view.copy())
    assert len(expected) >= 1
    np.testing.assert_array_equal(found.points, expected.points)


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1), (2, 3), (10000, 10000)])
def test_frames_of_all_sizes_work(size: tuple[int, int], detector: FaceDetector) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    assert len(detector.detect(frame)) == 0


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (None, "was the picture read"),
        (np.zeros((0, 0, 3), np.uint8), "empty"),
        (np.zeros((96, 128), np.uint8), "gray, .*COLOR_GRAY2RGB"),
        (np.zeros((96, 128, 4), np.uint8), "must be uint8 RGB"),
        (np.zeros((96, 128, 3), np.float64), "must be uint8 RGB"),
    ],
)
def test_other_frames_are_refused_in_one_line(frame: Any, reason: str, detector: FaceDetector) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        detector.detect(frame)
    assert "\n" not in str(error.value)


# Models


def test_the_test_model_sees_a_bright_cell(detector: FaceDetector) -> None:
    frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    frame[16:24, 40:48] = 255
    faces = detector.detect(frame)
    np.testing.assert_allclose(faces.points, face(43.5, 19.5, SPOT_SIZE)[np.newaxis], atol=1e-3)
    assert faces.scores[0] > 0.99


def test_a_model_that_is_no_detector_of_this_size_is_refused(float_model: bytes) -> None:
    with pytest.raises(ValueError, match=r"takes \(1, 96, 128, 3\); expected is \(1, 96, 96, 3\)"):
        FaceDetector(Model(float_model, InputSpec(96, 96)))
    with pytest.raises(ValueError, match=r"gives \(256,\); a face detector at 112x112 gives \(261, 12\)"):
        FaceDetector(Model(RECOGNIZER, InputSpec()))
    with pytest.raises(ValueError, match=r"gives \(251, 12\).*gives \(252, 12\)") as error:
        FaceDetector(Model(spot_model(HEIGHT, WIDTH, int8=False, missing=1), InputSpec(HEIGHT, WIDTH)))
    assert "\n" not in str(error.value)


def test_missing_and_damaged_models_are_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    level = cv2.utils.logging.getLogLevel()
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(b"no model at all")
    with pytest.raises(ValueError, match=r"damaged\.onnx: OpenCV cannot read it") as error:
        YuNet(damaged)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""
    assert cv2.utils.logging.getLogLevel() == level
    with pytest.raises(FileNotFoundError, match=r"gone\.onnx: there is no such model"):
        YuNet(tmp_path / "gone.onnx")
    with pytest.raises(FileNotFoundError, match="gone"):
        open_detector(tmp_path / "gone")
    with pytest.raises(ValueError, match="an input of 1x1 or more"):
        YuNet(damaged, input=(0, 320))


def spot_model(height: int, width: int, *, int8: bool, missing: int = 0) -> bytes:
    """A detector that sees a face of `SPOT_SIZE` in each bright cell of stride 8, and none in the coarser maps.

    A convolution of stride 8 averages each cell; its bias says where the points are. Written as a TFLite file directly,
    for a test that must know what the network sees needs no training framework.

    Args:
        missing: rows to leave out of the output.
    """
    rows, columns = height // 8, width // 8
    fine, total = rows * columns, len(cell_centers(height, width)) - missing
    kernel = np.zeros((CHANNELS, 8, 8, 3), np.float32)
    kernel[0] = 12 / kernel[0].size  # -16 where it is black, -4 where it is gray, almost 8 where it is white
    bias = np.concatenate([[-4, 2 * np.log2(SPOT_SIZE / 64)], (8 / 72 * CENTERED).ravel()]).astype(np.float32)
    coarse = np.zeros((1, total - fine, CHANNELS), np.float32)
    coarse[..., 0] = -8
    input_scale, kernel_scale, output_scale = 1 / 128, float(kernel.max()) / 127, 1 / 16
    if int8:
        kernel = np.round(kernel / kernel_scale).astype(np.int8)
        bias = np.round(bias / (input_scale * kernel_scale)).astype(np.int32)
        coarse = np.round(coarse / output_scale).astype(np.int8)

    model = schema.ModelT()
    model.version, model.operatorCodes, model.buffers = 3, [], [schema.BufferT()]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators = [], []
    model.subgraphs = [graph]

    def tensor(name: str, shape: tuple[int, ...], scale: float, content: np.ndarray | None = None) -> int:
        one = schema.TensorT()
        one.name, one.shape, one.buffer = name, list(shape), 0
        kind = content.dtype.name if content is not None else "int8" if int8 else "float32"
        one.type = getattr(schema.TensorType, kind.upper())
        if content is not None:
            one.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(content.tobytes(), np.uint8)
        if int8 and scale:
            one.quantization = schema.QuantizationParametersT()
            one.quantization.scale, one.quantization.zeroPoint = [scale], [0]
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    def operator(kind: str, inputs: list[int], output: int, **options: Any) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = code.builtinCode, 3 if kind == "CONV_2D" else 1
        model.operatorCodes.append(code)
        one = schema.OperatorT()
        one.opcodeIndex, one.inputs, one.outputs = len(model.operatorCodes) - 1, inputs, [output]
        name = {"CONV_2D": "Conv2D", "RESHAPE": "Reshape", "CONCATENATION": "Concatenation"}[kind] + "Options"
        one.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        one.builtinOptions = getattr(schema, f"{name}T")()
        for option, value in options.items():
            setattr(one.builtinOptions, option, value)
        graph.operators.append(one)

    image = tensor("image", (1, height, width, 3), input_scale)
    weights = tensor("kernel", kernel.shape, kernel_scale, kernel)
    offsets = tensor("bias", bias.shape, input_scale * kernel_scale, bias)
    grid = tensor("grid", (1, rows, columns, CHANNELS), output_scale)
    shape = tensor("shape", (3,), 0, np.array([1, fine, CHANNELS], np.int32))
    flat = tensor("flat", (1, fine, CHANNELS), output_scale)
    rest = tensor("coarse", coarse.shape, output_scale, coarse)
    found = tensor("faces", (1, total, CHANNELS), output_scale)
    operator("CONV_2D", [image, weights, offsets], grid, strideH=8, strideW=8, padding=schema.Padding.VALID)
    operator("RESHAPE", [grid, shape], flat, newShape=[1, fine, CHANNELS])
    operator("CONCATENATION", [flat, rest], found, axis=1)
    graph.inputs, graph.outputs = [image], [found]

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())

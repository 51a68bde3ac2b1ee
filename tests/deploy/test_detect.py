from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from deploy.align import TEMPLATE, face_boxes, face_sizes
from deploy.detect import (
    CANDIDATES,
    CHANNELS,
    SURER,
    Detector,
    FaceDetector,
    Faces,
    YuNet,
    blend,
    cells,
    decode,
    fit,
    open_detector,
)
from deploy.inference.bundle import InputSpec
from deploy.inference.model import Model

HEIGHT, WIDTH = 96, 128
RECOGNIZER = Path(__file__).parents[2] / "deploy/models/recognizer/model.tflite"

CENTRED = TEMPLATE.astype(np.float64) - TEMPLATE.mean(axis=0)
SPOT_SIZE = 24.0


def face(x: float, y: float, size: float) -> np.ndarray:
    return CENTRED * (size / 72) + (x, y)


def nothing(height: int, width: int) -> np.ndarray:
    rows = np.zeros((len(cells(height, width)), CHANNELS), np.float32)
    rows[:, 0] = -8
    return rows


def tell(rows: np.ndarray, cell: int, centre: tuple[float, float], points: np.ndarray, logit: float) -> None:
    """Writes into a row that its cell, with this centre, sees this face."""
    size = float(face_sizes(points[np.newaxis])[0])
    rows[cell, :2] = logit, 2 * np.log2(size / 64)
    rows[cell, 2:] = (8 * (points - centre) / size).ravel()


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


def test_the_cells_are_three_maps_row_by_row() -> None:
    centres = cells(60, 100)  # 8 x 13, 4 x 7 and 2 x 4: the last of a row or column may be cut
    assert centres.shape == (104 + 28 + 8, 2)
    assert centres[[0, 1, 13]].tolist() == [[3.5, 3.5], [11.5, 3.5], [3.5, 11.5]]
    assert centres[[104, 105, 111]].tolist() == [[7.5, 7.5], [23.5, 7.5], [7.5, 23.5]]
    assert centres[[132, 139]].tolist() == [[15.5, 15.5], [111.5, 47.5]]
    assert len(cells(240, 320)) == 1580


def test_a_row_becomes_the_face_that_its_numbers_say() -> None:
    rows = nothing(64, 96)  # 8 x 12, 4 x 6, 2 x 3 cells
    # Stride 16, cell (1, 2): its centre is (39.5, 23.5). Size 128 px, so 8 is 128 px.
    rows[96 + 6 + 2] = [np.log(3), 2, -1, -1, 1, -1, 0, 0, -1, 1, 8, -8]
    faces = decode(rows, 64, 96, 0.5)
    assert (faces.points.dtype, faces.scores.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(
        faces.points[0], [[23.5, 7.5], [55.5, 7.5], [39.5, 23.5], [23.5, 39.5], [167.5, -104.5]], atol=1e-4
    )
    np.testing.assert_allclose(faces.scores, [0.75], rtol=1e-6)


@pytest.mark.parametrize(
    ("cell", "centre", "found"),
    [
        (0, (3.5, 3.5), face(2, 1, 20)),  # cut by the upper left border
        (1199, (315.5, 235.5), face(318, 239, 30)),  # by the lower right one
        (1200, (7.5, 7.5), face(10, 12, 64)),
        (1579, (303.5, 239.5), face(290, 200, 230)),
    ],
)
def test_faces_at_the_borders_keep_their_points_outside(
    cell: int, centre: tuple[float, float], found: np.ndarray
) -> None:
    assert cells(240, 320)[cell].tolist() == list(centre)
    rows = nothing(240, 320)
    tell(rows, cell, centre, found, 2)
    faces = decode(rows, 240, 320, 0.5)
    np.testing.assert_allclose(faces.points, found[np.newaxis], atol=1e-3)
    np.testing.assert_allclose(faces.sizes, face_sizes(found[np.newaxis]), rtol=1e-4)
    np.testing.assert_allclose(faces.boxes, face_boxes(found[np.newaxis]), atol=1e-3)


def test_only_rows_from_the_threshold_on_count() -> None:
    rows = nothing(240, 320)
    for i, logit in enumerate((-1.0, 0.0, 1.0)):
        tell(rows, 1200 + 8 * i, (7.5 + 128 * i, 7.5), face(8 + 128 * i, 8, 40), logit)
    assert len(decode(rows, 240, 320, 0.8)) == 0
    assert len(decode(rows, 240, 320, 0.6)) == 1
    assert len(decode(rows, 240, 320, 0.5)) == 2
    assert len(decode(rows, 240, 320, 0.2)) == 3
    scores = decode(rows, 240, 320, 0.2).scores
    np.testing.assert_allclose(scores, 1 / (1 + np.exp([-1.0, 0.0, 1.0])), rtol=1e-6)


def test_no_face_is_an_empty_answer() -> None:
    faces = decode(nothing(240, 320), 240, 320, 0.5)
    assert (faces.points.shape, faces.scores.shape) == ((0, 5, 2), (0,))
    assert (faces.boxes.shape, faces.sizes.shape, len(faces)) == ((0, 4), (0,), 0)


def test_numbers_that_are_none_are_not_faces() -> None:
    rows = nothing(240, 320)
    for cell, channel, value in ((3, 0, np.nan), (40, 1, np.nan), (90, 5, np.inf), (700, 2, -np.inf)):
        rows[cell, 0] = 4
        rows[cell, channel] = value
    tell(rows, 1200, (7.5, 7.5), face(8, 8, 40), np.inf)
    faces = decode(rows, 240, 320, 0.5)
    assert faces.scores.tolist() == [1.0]
    np.testing.assert_allclose(faces.points, face(8, 8, 40)[np.newaxis], atol=1e-3)


def test_absurd_sizes_stay_finite() -> None:
    rows = nothing(240, 320)
    rows[[3, 1500], :2] = [[4, 1e6], [4, -1e6]]
    rows[[3, 1500], 2:] = 1e3 * CENTRED.ravel()
    assert np.isfinite(decode(rows, 240, 320, 0.5).boxes).all()


@pytest.mark.parametrize("shape", [(1579, 12), (1580, 13), (1, 1580, 12)])
def test_an_output_that_does_not_fit_the_input_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="1580 cells of 12 channels"):
        decode(np.zeros(shape, np.float32), 240, 320, 0.5)


@pytest.mark.parametrize("threshold", [0, 1, -0.5, float("nan")])
def test_a_threshold_is_between_0_and_1(threshold: float, float_model: bytes, tmp_path: Path) -> None:
    for call in (
        lambda: decode(nothing(240, 320), 240, 320, threshold),
        lambda: FaceDetector(Model(float_model, InputSpec(HEIGHT, WIDTH)), threshold),
        lambda: YuNet(tmp_path, threshold),
    ):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call()


# Blending


def test_detections_of_one_face_are_averaged_by_how_sure_they_are() -> None:
    points = np.stack([face(100, 100, 60), face(104, 98, 66)])
    faces = blend(points, np.array([0.9, 0.6]))
    share = 0.9**SURER / (0.9**SURER + 0.6**SURER)
    np.testing.assert_allclose(faces.points, [share * points[0] + (1 - share) * points[1]], rtol=1e-6)
    np.testing.assert_allclose(faces.scores, [0.9], rtol=1e-6)


def test_faces_apart_stay_apart_and_best_first() -> None:
    points = np.stack([face(200, 100, 60), face(60, 50, 20), face(201, 101, 60), face(240, 100, 60), face(61, 50, 20)])
    faces = blend(points, np.array([0.9, 0.8, 0.7, 0.6, 0.5]))
    np.testing.assert_allclose(faces.scores, [0.9, 0.8, 0.6], rtol=1e-6)
    centres = faces.points.mean(axis=1)
    moved = [second**SURER / (first**SURER + second**SURER) for first, second in ((0.9, 0.7), (0.8, 0.5))]
    np.testing.assert_allclose(centres[:, 0], [200 + moved[0], 60 + moved[1], 240], rtol=1e-6)


def test_only_what_overlaps_the_best_one_is_its_own() -> None:
    # Boxes are 72 x 92. The second overlaps the first by half, the third the second but not the first.
    points = np.stack([face(100, 100, 72), face(124, 100, 72), face(148, 100, 72)])
    boxes = face_boxes(points)
    np.testing.assert_allclose(boxes[:, 2], 72, rtol=1e-4)
    faces = blend(points, np.array([0.9, 0.8, 0.7]))
    assert len(faces) == 2
    np.testing.assert_allclose(faces.points[1], points[2], rtol=1e-6)
    # With the middle one best, all three are one.
    assert len(blend(points[[1, 0, 2]], np.array([0.9, 0.8, 0.7]))) == 1


def test_a_face_inside_a_much_larger_one_is_another() -> None:
    assert len(blend(np.stack([face(100, 100, 200), face(100, 100, 80)]), np.array([0.9, 0.8]))) == 2


def test_a_face_of_another_size_in_the_same_place_is_the_same() -> None:
    faces = blend(np.stack([face(100, 100, 90), face(104, 96, 52)]), np.array([0.9, 0.8]))
    np.testing.assert_allclose(faces.points, [face(100, 100, 90)], rtol=1e-5)
    assert len(blend(np.stack([face(104, 96, 52), face(100, 100, 90)]), np.array([0.9, 0.8]))) == 1


def test_detections_without_area_end_as_faces_of_their_own() -> None:
    faces = blend(np.full((3, 5, 2), 9.0), np.array([0.9, 0.8, 0.7]))
    assert len(faces) == 3
    assert faces.sizes.tolist() == [0, 0, 0]


def test_blending_agrees_with_one_face_at_a_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = np.stack([face(*rng.uniform(0, 200, 2), rng.uniform(20, 90)) for _ in range(60)])
        scores = np.sort(rng.uniform(0.1, 1, 60))[::-1]
        pending, expected = list(range(60)), []
        while pending:
            one = face_boxes(points[pending[:1]])[0]
            found = {i: overlap(one, face_boxes(points[i : i + 1])[0]) for i in pending}
            same = [i for i in pending if found[i][0] >= 0.45]
            expected.append(np.average(points[same], axis=0, weights=scores[same] ** SURER))
            pending = [i for i in pending if i not in same and not (found[i][1] >= 0.6 and found[i][2] <= 4)]
        np.testing.assert_allclose(blend(points, scores).points, expected, rtol=1e-5)


def overlap(one: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    """Intersection over union, the share of the smaller box, and how many times larger the other is."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    small, large = sorted((one[2] * one[3], other[2] * other[3]))
    return float(shared / (small + large - shared)), float(shared / small), float(large / small)


def test_a_frame_that_is_all_faces_takes_bounded_work() -> None:
    rows = np.zeros((len(cells(480, 640)), CHANNELS), np.float32)  # 6,300 cells, all of them sure
    rows[:, 1] = -8
    rows[:, 2:] = (8 / 72 * CENTRED).ravel()
    rows[:, 0] = 4 + np.arange(len(rows)) / len(rows)
    decode(rows, 480, 640, 0.5)
    tracemalloc.start()
    faces = decode(rows, 480, 640, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(faces) == CANDIDATES
    np.testing.assert_allclose(faces.points[0].mean(axis=0), cells(480, 640)[-1], atol=1e-3)
    assert peak < 16e6


# Frames


@pytest.mark.parametrize(
    ("frame", "inner"),
    [
        ((96, 128), (96, 128)),
        ((480, 640), (96, 128)),
        ((250, 250), (96, 96)),
        ((1080, 1920), (72, 128)),
        ((1920, 1080), (96, 54)),
        ((24, 32), (96, 128)),
        ((1, 1), (96, 96)),
        ((1, 30000), (1, 128)),
        ((30000, 1), (96, 1)),
        ((333, 457), (93, 128)),
    ],
)
def test_frames_are_fitted_and_padded_with_grey(frame: tuple[int, int], inner: tuple[int, int]) -> None:
    image, scale = fit(np.full((*frame, 3), 7, np.uint8), HEIGHT, WIDTH)
    assert (image.shape, image.dtype) == ((HEIGHT, WIDTH, 3), np.uint8)
    assert (image[: inner[0], : inner[1]] == 7).all()
    assert (image[inner[0] :] == 128).all()
    assert (image[:, inner[1] :] == 128).all()
    np.testing.assert_allclose(scale, [inner[1] / frame[1], inner[0] / frame[0]])


def test_a_frame_that_shrinks_is_averaged() -> None:
    frame = np.zeros((4 * HEIGHT, 4 * WIDTH, 3), np.uint8)
    frame[::4, ::4] = 160
    assert (fit(frame, HEIGHT, WIDTH)[0] == 10).all()


@pytest.mark.parametrize("size", [(96, 128), (480, 640), (250, 250), (333, 457), (48, 64), (721, 1283)])
@pytest.mark.parametrize("int8", [False, True])
def test_points_are_mapped_back_to_the_pixels_of_the_frame(
    size: tuple[int, int], int8: bool, float_model: bytes, int8_model: bytes
) -> None:
    detector: Detector = FaceDetector(Model(int8_model if int8 else float_model, InputSpec(HEIGHT, WIDTH)))
    height, width = size
    scale = fit(np.zeros((*size, 3), np.uint8), HEIGHT, WIDTH)[1]
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
        (np.zeros((96, 128), np.uint8), "grey, .*COLOR_GRAY2RGB"),
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
    with pytest.raises(ValueError, match=r"gives \(128,\); a face detector at 112x112 gives \(261, 12\)"):
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


def test_faces_need_a_score_each() -> None:
    with pytest.raises(ValueError, match=r"points \(N, 5, 2\) and scores \(N,\)"):
        Faces(np.zeros((2, 5, 2), np.float32), np.zeros(3, np.float32))


def spot_model(height: int, width: int, *, int8: bool, missing: int = 0) -> bytes:
    """A detector that sees a face of `SPOT_SIZE` in each bright cell of stride 8, and none in the coarser maps.

    A convolution of stride 8 averages each cell; its bias says where the points are. Written as a TFLite file directly,
    for a test that must know what the network sees needs no training framework.

    Args:
        missing: rows to leave out of the output.
    """
    rows, columns = height // 8, width // 8
    fine, total = rows * columns, len(cells(height, width)) - missing
    kernel = np.zeros((CHANNELS, 8, 8, 3), np.float32)
    kernel[0] = 12 / kernel[0].size  # -16 where it is black, -4 where it is grey, almost 8 where it is white
    bias = np.concatenate([[-4, 2 * np.log2(SPOT_SIZE / 64)], (8 / 72 * CENTRED).ravel()]).astype(np.float32)
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

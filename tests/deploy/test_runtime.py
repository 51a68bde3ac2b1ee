from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.bundle import Bundle, InputSpec
from deploy.runtime import Interpreter, Recognizer, TensorInfo, input_table

Make = Callable[..., Bundle]


def tensor(dtype: type, scale: float, zero_point: int) -> TensorInfo:
    return TensorInfo(0, "image", (1, 32, 32, 3), np.dtype(dtype), scale, zero_point)


def test_pixels_enter_a_unit_scaled_int8_model_as_pixel_minus_128() -> None:
    table = input_table(InputSpec(), tensor(np.int8, 1 / 128, 0))
    assert np.array_equal(table, np.arange(256) - 128)
    assert table.dtype == np.int8


def test_quantisation_rounds_half_away_from_zero_and_saturates() -> None:
    table = input_table(InputSpec(mean=0.0, scale=1.0), tensor(np.int8, 2.0, -10))
    assert [table[0], table[1], table[3], table[255]] == [-10, -9, -8, 118]
    below = input_table(InputSpec(mean=3.0, scale=1.0), tensor(np.int8, 2.0, 0))
    assert [below[0], below[2]] == [-2, -1]
    assert input_table(InputSpec(mean=0.0, scale=1.0), tensor(np.uint8, 0.5, 0))[200] == 255


def test_a_float_model_gets_normalised_pixels() -> None:
    table = input_table(InputSpec(mean=127.5, scale=127.5), tensor(np.float32, 0.0, 0))
    assert table[[0, 255]].tolist() == [-1.0, 1.0]


def test_an_input_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="it is int64"):
        input_table(InputSpec(), tensor(np.int64, 0.0, 0))


def test_embeddings_have_unit_length_and_equal_the_reference_kernels(make_bundle: Make) -> None:
    bundle = make_bundle()
    embeddings = Recognizer(bundle.path).embed(bundle.golden_input)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)
    expected = bundle.golden_output / np.linalg.norm(bundle.golden_output, axis=1, keepdims=True)
    assert np.sum(embeddings * expected, axis=1).min() > 0.9999


def test_float_and_int8_models_agree(make_bundle: Make, tmp_path: Path, float_model: bytes) -> None:
    quantised = make_bundle()
    recognizer = Recognizer(make_bundle(tmp_path / "float", model=float_model), check=False)
    found = recognizer.embed(quantised.golden_input)
    assert np.sum(found * Recognizer(quantised).embed(quantised.golden_input), axis=1).min() > 0.99


def test_larger_faces_are_averaged_down_to_the_models_input(make_bundle: Make) -> None:
    recognizer = Recognizer(make_bundle())
    face = np.random.default_rng(0).integers(0, 256, (112, 112, 3)).astype(np.uint8)
    small = cv2.resize(face, (32, 32), interpolation=cv2.INTER_AREA)
    assert np.array_equal(recognizer.embed(face[np.newaxis]), recognizer.embed(small[np.newaxis]))


def test_no_faces_give_no_embeddings(make_bundle: Make) -> None:
    assert Recognizer(make_bundle()).embed(np.empty((0, 112, 112, 3), np.uint8)).shape == (0, 8)


@pytest.mark.parametrize(
    "images",
    [np.zeros((1, 32, 32, 3), np.float32), np.zeros((32, 32, 3), np.uint8), np.zeros((1, 32, 32, 4), np.uint8)],
)
def test_other_arrays_than_faces_are_refused(make_bundle: Make, images: np.ndarray) -> None:
    with pytest.raises(ValueError, match="faces must be uint8 RGB"):
        Recognizer(make_bundle()).embed(images)


def test_wrong_preprocessing_constants_fail_the_golden_check(make_bundle: Make) -> None:
    bundle = make_bundle(input=InputSpec(32, 32, mean=0.0, scale=255.0))
    with pytest.raises(ValueError, match="gives another output on this device"):
        Recognizer(bundle)
    Recognizer(bundle, check=False)


def test_a_bundle_that_does_not_fit_its_model_is_refused(make_bundle: Make) -> None:
    images = np.zeros((1, 48, 48, 3), np.uint8)
    with pytest.raises(ValueError, match=r"takes \(1, 32, 32, 3\).*expected is \(1, 48, 48, 3\)"):
        Recognizer(make_bundle(input=InputSpec(48, 48), golden_input=images, golden_output=np.ones((1, 8))))
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match=r"gives \(8,\), its golden outputs are \(9,\)"):
        Recognizer(make_bundle(golden_input=images, golden_output=np.ones((1, 9))))


def test_delegation_is_counted_on_the_original_graph(int8_model: bytes, split_model: bytes, float_model: bytes) -> None:
    for whole in (int8_model, float_model):
        delegation = Interpreter(whole).delegation()
        assert (delegation.delegate, delegation.delegated, delegation.total) == ("XNNPACK", 6, 6)
        assert delegation.complete
        assert delegation.left_out == ()
    split = Interpreter(split_model).delegation()
    assert (split.delegated, split.total, split.left_out) == (6, 7, ("3 AVERAGE_POOL_2D",))


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_truncated_model_is_refused_in_one_line(tmp_path: Path, int8_model: bytes, share: float) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(int8_model[: int(share * len(int8_model))])
    with pytest.raises(ValueError, match=r"cut\.tflite: not a whole TFLite model") as error:
        Interpreter(path)
    assert "\n" not in str(error.value)


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.tflite"):
        Interpreter(tmp_path / "gone.tflite")


def test_a_bundle_for_another_task_is_refused(make_bundle: Make) -> None:
    with pytest.raises(ValueError, match="is for detection, not for recognition"):
        Recognizer(make_bundle(task="detection"))

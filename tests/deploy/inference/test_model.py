from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.inference.bundle import Bundle, InputSpec
from slimcam.deploy.inference.model import Recognizer

Make = Callable[..., Bundle]


def test_embeddings_have_unit_length_and_equal_the_reference_kernels(make_bundle: Make) -> None:
    bundle = make_bundle()
    embeddings = Recognizer(bundle.path).embed(bundle.golden_input)
    assert embeddings.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, rtol=1e-6)
    expected = bundle.golden_output / np.linalg.norm(bundle.golden_output, axis=1, keepdims=True)
    assert np.sum(embeddings * expected, axis=1).min() > 0.9999


def test_float_and_int8_models_agree(make_bundle: Make, tmp_path: Path, float_model: bytes) -> None:
    quantized = make_bundle()
    recognizer = Recognizer(make_bundle(tmp_path / "float", model=float_model), check=False)
    found = recognizer.embed(quantized.golden_input)
    assert np.sum(found * Recognizer(quantized).embed(quantized.golden_input), axis=1).min() > 0.99


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
    with pytest.raises(BundleError, match="gives another output on this device"):
        Recognizer(bundle)
    Recognizer(bundle, check=False)


def test_a_bundle_that_does_not_fit_its_model_is_refused(make_bundle: Make) -> None:
    images = np.zeros((1, 48, 48, 3), np.uint8)
    with pytest.raises(BundleError, match=r"takes \(1, 32, 32, 3\).*expected is \(1, 48, 48, 3\)"):
        Recognizer(make_bundle(input=InputSpec(48, 48), golden_input=images, golden_output=np.ones((1, 8))))
    images = np.zeros((1, 32, 32, 3), np.uint8)
    with pytest.raises(BundleError, match=r"gives \(8,\), its golden outputs are \(9,\)"):
        Recognizer(make_bundle(golden_input=images, golden_output=np.ones((1, 9))))


def test_a_bundle_for_another_task_is_refused(make_bundle: Make) -> None:
    with pytest.raises(BundleError, match="is for detection, not for recognition"):
        Recognizer(make_bundle(task="detection"))

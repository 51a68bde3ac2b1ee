"""Compressing a model in one call: Keras models and graphs without layers, of any inputs and outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras

from slimcam import compression
from slimcam.compression.errors import CompressionError, ConversionError, UntraceableModelError
from slimcam.deploy.inference.interpreter import Interpreter

L = keras.layers


def samples(*shapes: tuple[int, ...]) -> Any:
    rng = np.random.default_rng(0)
    arrays = [rng.uniform(-1, 1, (8, *shape)).astype(np.float32) for shape in shapes]
    return compression.Samples(inputs=lambda: [arrays[0] if len(arrays) == 1 else arrays])


@pytest.fixture(scope="module")
def classifier() -> Any:
    """Its classes are so many that int8 softmax would be zero throughout."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = L.GlobalAveragePooling2D()(L.Conv2D(32, 3, activation="relu")(image))
    return keras.Model(image, L.Dense(1000, activation="softmax", name="classes")(x))


def test_a_model_becomes_a_file_that_follows_it(classifier: Any, tmp_path: Path) -> None:
    small = compression.compress(classifier, samples((8, 8, 3)))
    assert (small.scheme, small.pruned, small.model) == ("ptq_int8", None, classifier)
    assert small.inputs == "8 samples"
    assert small.delegation.complete
    assert small.undelegated == ()
    (fidelity,) = small.fidelity
    assert fidelity.output == "classes"
    assert fidelity.least > 0.99
    assert fidelity.sqnr_db is not None
    assert fidelity.sqnr_db > 20
    small.save(tmp_path / "small.tflite")
    interpreter = Interpreter(tmp_path / "small.tflite")
    assert (interpreter.input.dtype, interpreter.output.dtype) == (np.int8, np.float32)
    assert "classes" in str(small)


def test_pruning_is_asked_for_by_its_options(classifier: Any) -> None:
    small = compression.compress(classifier, samples((8, 8, 3)), scheme="float16", ratio=0.5)
    assert small.pruned is not None
    assert small.pruned.after.parameters < 0.6 * small.parameters
    assert small.model.count_params() == small.pruned.after.parameters
    # Random weights follow the whole model the less, the more is cut: that is what fidelity tells.
    assert small.fidelity[0].sqnr_db < compression.compress(classifier, scheme="float16").fidelity[0].sqnr_db


@pytest.mark.parametrize("scheme", ["ptq_int8", "weights_int8"])
def test_several_inputs_and_outputs_keep_their_order(scheme: str) -> None:
    keras.utils.set_random_seed(0)
    image, facts = keras.Input((8, 8, 3), name="z"), keras.Input((8, 8, 3), name="a")
    left, right = L.Conv2D(4, 3, name="left")(image), L.Conv2D(4, 3, name="right")(facts)
    model = keras.Model([image, facts], {"b": left, "a": right})
    small = compression.compress(model, samples((8, 8, 3), (8, 8, 3)), scheme=scheme)
    assert [each.output for each in small.fidelity] == ["right", "left"]
    assert all(each.least > 0.99 for each in small.fidelity)


def test_a_saved_model_is_quantized_and_not_pruned(classifier: Any, tmp_path: Path) -> None:
    classifier.export(tmp_path / "saved", verbose=False)
    graph = compression.load_model(tmp_path / "saved")
    assert graph.parameters == classifier.count_params()
    small = compression.compress(graph, samples((8, 8, 3)))
    assert small.fidelity[0].least > 0.99
    assert compression.compress(graph).scheme == "weights_int8"
    with pytest.raises(UntraceableModelError, match="saved shows no layers, so no channel can be pruned"):
        compression.compress(graph, ratio=0.5)
    with pytest.raises(CompressionError, match="layers: saved shows no layers"):
        compression.compress(graph, layers={"first": "float"})


def test_files_of_keras_3_and_of_keras_2_are_read(classifier: Any, tmp_path: Path) -> None:
    classifier.save(tmp_path / "three.h5")
    assert isinstance(compression.load_model(tmp_path / "three.h5"), keras.Model)
    # Keras 3 does not read the depthwise convolutions of Keras 2.
    image = tf_keras.Input((8, 8, 3))
    tf_keras.Model(image, tf_keras.layers.DepthwiseConv2D(3, name="deep")(image)).save(tmp_path / "two.h5")
    small = compression.compress(compression.load_model(tmp_path / "two.h5"), samples((8, 8, 3)))
    assert small.fidelity[0].output == "deep"
    assert small.fidelity[0].least > 0.99


def test_a_model_of_any_size_gets_one(tmp_path: Path) -> None:
    image = keras.Input((None, None, 3))
    keras.Model(image, L.GlobalAveragePooling2D()(L.Conv2D(8, 3)(image))).save(tmp_path / "open.keras")
    with pytest.raises(CompressionError, match=r"inputs of open size \(None, None, None, 3\)"):
        compression.compress(compression.load_model(tmp_path / "open.keras"))
    small = compression.compress(compression.load_model(tmp_path / "open.keras", (12, 16)))
    assert Interpreter(small.content).input.shape == (1, 12, 16, 3)


class Subclassed(keras.Model):
    def call(self, x: Any) -> Any:
        return x


def test_what_cannot_be_compressed_is_refused_in_one_line(tmp_path: Path) -> None:
    def load(name: str) -> Any:
        return compression.load_model(tmp_path / name)

    (tmp_path / "text.keras").write_text("text")
    (tmp_path / "text.h5").write_text("text")
    Subclassed(name="own").save(tmp_path / "own.keras")
    sequence = keras.Input((5, 4))
    recurrent = keras.Model(sequence, L.LSTM(3, name="memory")(sequence))
    words = keras.Input((4,), dtype="int32")
    for error, message, call in (
        (
            CompressionError,
            "text.keras is damaged or no .keras file",
            lambda: compression.load_model(tmp_path / "text.keras"),
        ),
        (
            CompressionError,
            "text.h5 cannot be read as a Keras model",
            lambda: compression.load_model(tmp_path / "text.h5"),
        ),
        (
            UntraceableModelError,
            "own.keras holds a class that is not of Keras",
            lambda: compression.load_model(tmp_path / "own.keras"),
        ),
        (UntraceableModelError, "cannot be traced: expected a functional", Subclassed),
        (ConversionError, r"layer 'memory' \(LSTM\) has no int8 form", lambda: recurrent),
        (
            CompressionError,
            "takes int32, of which none can be sampled",
            lambda: keras.Model(words, L.Embedding(9, 4)(words)),
        ),
    ):
        given = samples((5, 4)) if "LSTM" in message else None
        with pytest.raises(error, match=message) as refused:
            compression.compress(call(), given)
        assert "\n" not in str(refused.value)
    assert compression.compress(recurrent, samples((5, 4)), scheme="float16").fidelity[0].least > 0.99

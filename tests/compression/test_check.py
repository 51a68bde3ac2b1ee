"""What a model's compression will meet is told before training, all of it at once."""

from __future__ import annotations

from typing import Any

import keras
import pytest

from slimcam.compression.check import preflight
from slimcam.compression.pruning.config import MagnitudeConfig, PruningRatioConfig
from slimcam.compression.quantization.schemes import Scheme

L = keras.layers
HALF = PruningRatioConfig(ratio=0.5)


def network(*odd: Any) -> Any:
    inputs = keras.Input((16, 16, 3))
    x = L.ReLU()(L.BatchNormalization()(L.Conv2D(32, 3)(inputs)))
    for layer in odd:
        x = layer(x)
    x = L.ReLU()(L.Conv2D(32, 3)(x))
    return keras.Model(inputs, L.Flatten()(L.Conv2D(8, 1)(L.GlobalAveragePooling2D(keepdims=True)(x))))


def test_sound_model_is_delegated_throughout() -> None:
    found = preflight(network(L.Activation("hard_silu")), HALF)
    assert (found.problems, found.undelegated) == ([], [])
    assert "XNNPACK runs 7 of 7 int8 operators" in str(found)
    assert found.changes


def test_everything_that_is_not_supported_is_told_at_once_by_name() -> None:
    odd = L.Activation("gelu", name="smooth"), L.LayerNormalization(name="norm"), L.Softmax(name="shares")
    found = preflight(network(*odd), HALF)
    text = str(found)
    assert "layer 'smooth': activation 'gelu' has no int8 form; use" in text
    assert "layer 'norm' (LayerNormalization) has no int8 form; replace it" in text
    assert "channels, read by shares" in text
    assert found.operators is None


def test_layers_without_an_int8_form_are_no_problem_of_a_scheme_without_training() -> None:
    odd = network(L.Activation("gelu", name="smooth"), L.LayerNormalization(name="norm"))
    found = preflight(odd, HALF, scheme=Scheme.PTQ_INT8)
    assert found.problems == []
    assert any("'norm'" in note for note in found.notes)
    assert found.operators is not None
    assert preflight(odd, HALF, scheme=Scheme.FLOAT16).problems == []


def test_pruning_by_magnitude_is_tried_too() -> None:
    found = [
        preflight(network(), HALF, scheme=Scheme.NONE, magnitude=MagnitudeConfig(policy=policy)).problems
        for policy in ("all", "xnnpack")
    ]
    assert found[0] == []
    assert [problem[:24] for problem in found[1]] == ["magnitude.policy=xnnpack"]


def test_operator_that_stays_with_tflite_is_named_with_its_layer() -> None:
    inputs = keras.Input((16, 16, 3))
    x = L.Conv2D(16, 3, name="stem")(inputs)
    x = L.Conv2D(16, 1)(L.Softmax(name="attention")(L.ReLU()(L.Conv2D(16, 1)(x))))
    found = preflight(keras.Model(inputs, x), HALF)
    assert found.problems == []
    assert any("SOFTMAX (layer attention)" in line for line in found.undelegated)


def test_subclassed_model_is_a_problem() -> None:
    class Subclassed(keras.Model):  # type: ignore[misc]
        def call(self, inputs: Any) -> Any:
            return inputs

    (problem,) = preflight(Subclassed(), HALF).problems
    assert "cannot be traced" in problem


@pytest.mark.parametrize(
    "activation", ["relu", "relu6", "silu", "hard_silu", "hard_sigmoid", "sigmoid", "tanh", "leaky_relu"]
)
def test_activations_are_delegated(activation: str) -> None:
    found = preflight(network(L.Activation(activation)), HALF)
    assert (found.problems, found.undelegated) == ([], [])


def test_model_of_open_size_or_of_several_inputs_is_a_problem() -> None:
    inputs = keras.Input((None, None, 3))
    x = L.GlobalAveragePooling2D()(L.ReLU()(L.Conv2D(16, 3)(L.ReLU()(L.Conv2D(16, 3)(inputs)))))
    problems = preflight(keras.Model(inputs, x), HALF).problems
    assert "build it with a fixed input shape" in problems[0]
    assert "must have one input of fixed size" in problems[-1]
    pair = [keras.Input((8, 8, 3)), keras.Input((8, 8, 3))]
    x = L.Flatten()(L.Conv2D(16, 3)(L.ReLU()(L.Conv2D(16, 3)(L.Add()(pair)))))
    assert "must have one input of fixed size" in preflight(keras.Model(pair, x), HALF).problems[-1]

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from slimcam.compression.export.delegation import delegation_problems
from slimcam.deploy.inference.interpreter import Interpreter


def with_scale(model: bytes, operator: int, position: int, scale: float, channel: int = 0) -> bytes:
    """The model with one scale of one input of an operator replaced."""
    whole = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))
    graph = whole.subgraphs[0]
    quantization = graph.tensors[graph.operators[operator].inputs[position]].quantization
    quantization.scale = np.array(quantization.scale)
    quantization.scale[channel] = scale
    builder = flatbuffers.Builder(1024)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def scales(model: bytes, operator: int) -> tuple[float, float]:
    """Scales of the first input and of the output."""
    graph = schema.Model.GetRootAs(model).Subgraphs(0)
    node = graph.Operators(operator)
    first, output = (graph.Tensors(i).Quantization().Scale(0) for i in (node.Inputs(0), node.Outputs(0)))
    return first, output


def test_sound_models_have_no_problems(int8_model: bytes, float_model: bytes) -> None:
    for model in (int8_model, float_model):
        assert delegation_problems(model) == []
        assert Interpreter(model).delegation().complete


@pytest.mark.parametrize("operator", [0, 1, 4])
def test_the_bound_is_the_one_at_which_xnnpack_refuses(int8_model: bytes, operator: int) -> None:
    first, output = scales(int8_model, operator)
    below = with_scale(int8_model, operator, 1, 255 * output / first, channel=3)
    assert delegation_problems(below) == []
    Interpreter(below)
    above = with_scale(int8_model, operator, 1, 257 * output / first, channel=3)
    (problem,) = delegation_problems(above)
    assert (problem.operator, "first 3" in problem.text, "scale 257" in problem.text) == (operator, True, True)
    with pytest.raises(RuntimeError, match=r"XNNPACK refuses the model .* 256 or more"):
        Interpreter(above)


def test_an_addition_of_far_apart_scales_is_listed_and_not_delegated(int8_model: bytes) -> None:
    _, output = scales(int8_model, 2)
    apart = with_scale(int8_model, 2, 1, output / 2000)
    (problem,) = delegation_problems(apart)
    assert (problem.operator, problem.kind) == (2, "ADD")
    assert Interpreter(apart).delegation().left_out == ("2 ADD",)


def test_an_operator_without_int8_kernel_is_listed_and_named(split_model: bytes) -> None:
    (problem,) = delegation_problems(split_model)
    assert (problem.operator, problem.kind) == (3, "AVERAGE_POOL_2D")
    assert Interpreter(split_model).delegation().left_out == ("3 AVERAGE_POOL_2D",)


def test_a_float_island_is_listed(island_model: bytes) -> None:
    problems = delegation_problems(island_model)
    assert [problem.kind for problem in problems] == ["SIN"]
    assert "runs in float among int8 operators" in problems[0].text


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="not a TFLite model"):
        delegation_problems(b"not a model at all")

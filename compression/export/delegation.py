"""Which operators of an int8 TFLite model XNNPACK does not run: as the runtime says, with the reason from the graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from slimcam.compression.errors import ConversionError
from slimcam.compression.export import xnnpack_limits
from slimcam.deploy.inference.interpreter import Interpreter


@dataclass(frozen=True)
class Problem:
    """Why XNNPACK will not run an operator.

    Attributes:
        operator: Index of the operator in the graph.
        kind: Kind of the operator, for example `"CONV_2D"`.
        tensor: Name of the operator's output.
        text: What is wrong, with the figures.
        layer: The layer of the Keras model that the operator computes, empty where the names do not tell.
    """

    operator: int
    kind: str
    tensor: str
    text: str
    layer: str = ""

    def __str__(self) -> str:
        place = f"layer {self.layer}" if self.layer else self.tensor
        return f"operator {self.operator} {self.kind} ({place}): {self.text}"


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    name: str
    type: int
    scale: np.ndarray[Any, np.dtype[np.float64]]
    constant: bool


@dataclass(frozen=True)
class Operator:
    """One operator of a file."""

    index: int
    kind: str
    inputs: tuple[Tensor, ...]
    output: Tensor


def delegation_problems(model: bytes, origins: Mapping[str, str] | None = None) -> list[Problem]:
    """Lists the operators of an int8 model that XNNPACK does not run or runs in float, with the reason if it is known.

    The runtime is asked. Where it refuses the whole model, the operators are listed whose scales are the cause
    (`xnnpack_limits`). Nothing is listed for a float model.

    Args:
        model: content of a `.tflite` file.
        origins: layer of the Keras model by the name of the layer that was converted, as in `NormalForm.origins`.

    Raises:
        ConversionError: the bytes are not a TFLite model, or the runtime refuses it for another reason.
    """
    operators = read_operators(model)
    if not any(operator.output.type == schema.TensorType.INT8 for operator in operators):
        return []
    faults = {operator.index: list(_faults(operator)) for operator in operators}
    try:
        left_out = {int(text.split()[0]) for text in Interpreter(model).delegation().left_out}
    except RuntimeError as error:
        left_out = {index for index, found in faults.items() if found}
        if not left_out:
            raise ConversionError(str(error)) from error
    return [
        Problem(operator.index, operator.kind, operator.output.name, text, layer)
        for operator in operators
        if operator.index in left_out or _floats(operator)
        for layer in [next(iter(layers_of(operator.output.name, origins or {})), "")]
        for text in faults[operator.index] or ["XNNPACK does not run it, in this form at least"]
    ]


def layers_of(tensor: str, origins: Mapping[str, str]) -> list[str]:
    """The Keras layers that a tensor is named after: the converter joins the names of all that it fused.

    Args:
        tensor: name of an operator's output.
        origins: as for `delegation_problems`.
    """
    found = []
    for path in tensor.split(";"):
        scopes = path.split("/")
        # Keras 3 numbers every scope of a model that it calls once more: net_1/conv_1/Relu is of the layer conv.
        numbered = re.search(r"_\d+$", scopes[0]) and not any(scope.startswith("quant_") for scope in scopes)
        for scope in scopes:
            name = re.sub(r"_\d+$", "", scope) if numbered else scope.removeprefix("quant_")
            if name in origins:
                found.append(origins[name])
    return list(dict.fromkeys(found))


def _faults(operator: Operator) -> Iterator[str]:
    if floats := _floats(operator):
        yield f"runs in float among int8 operators (float tensor {floats[0].name})"
    elif operator.kind in xnnpack_limits.FLOAT_ONLY:
        yield "XNNPACK has no int8 kernel for it"
    elif operator.kind in _SCALE_RULES:
        yield from _SCALE_RULES[operator.kind](operator)


def _floats(operator: Operator) -> list[Tensor]:
    """The float tensors of an operator that does not convert between float and int8."""
    if operator.kind in ("QUANTIZE", "DEQUANTIZE"):
        return []
    tensors = (*operator.inputs, operator.output)
    return [tensor for tensor in tensors if tensor.type == schema.TensorType.FLOAT32 and not tensor.constant]


def _requantization(operator: Operator) -> Iterator[str]:
    image, weights = operator.inputs[:2]
    if not (image.scale.size and weights.scale.size and operator.output.scale.size):
        return
    ratios = image.scale[0] * weights.scale / operator.output.scale[0]
    bad = np.flatnonzero(ratios >= xnnpack_limits.REQUANTIZATION)
    if bad.size:
        yield (
            f"requantization scale {ratios[bad].max():.3g} in {bad.size} of {ratios.size} channels (first {bad[0]}), "
            f"below {xnnpack_limits.REQUANTIZATION:.0f} is needed: input scale {image.scale[0]:.3g}, "
            f"weight scale {weights.scale[bad].max():.3g}, output scale {operator.output.scale[0]:.3g}"
        )


def _addition(operator: Operator) -> Iterator[str]:
    low, high = xnnpack_limits.ADDITION
    for tensor in operator.inputs:
        if not (tensor.scale.size and operator.output.scale.size):
            continue
        ratio = tensor.scale[0] / operator.output.scale[0]
        if not low <= ratio < high:
            yield (
                f"scale of {tensor.name} is {ratio:.3g} times the output's, "
                f"XNNPACK adds from {low:.3g} to below {high:g}"
            )


_SCALE_RULES: dict[str, Callable[[Operator], Iterator[str]]] = {
    "CONV_2D": _requantization,
    "DEPTHWISE_CONV_2D": _requantization,
    "FULLY_CONNECTED": _requantization,
    "ADD": _addition,
}


def read_operators(model: bytes) -> list[Operator]:
    """The operators of a model's graph, in order.

    Args:
        model: content of a `.tflite` file.

    Raises:
        ConversionError: the bytes are not a TFLite model.
    """
    root = root_of(model)
    graph = root.Subgraphs(0)
    tensors = [_tensor(root, graph.Tensors(i)) for i in range(graph.TensorsLength())]
    operators = []
    for index, kind in enumerate(operator_kinds(root)):
        node = graph.Operators(index)
        operators.append(
            Operator(
                index=index,
                kind=kind,
                inputs=tuple(tensors[i] for i in node.InputsAsNumpy() if i >= 0),
                output=tensors[node.Outputs(0)],
            )
        )
    return operators


def root_of(model: bytes) -> schema.Model:
    """The root of a `.tflite` file's tables.

    Raises:
        ConversionError: the bytes are not a TFLite model.
    """
    if model[4:8] != b"TFL3":
        raise ConversionError("not a TFLite model (no TFL3 mark in its first 8 bytes); convert it again")
    return schema.Model.GetRootAs(model)


def operator_kinds(root: schema.Model) -> list[str]:
    """The kind of each operator of a model's graph, in order."""
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
    graph = root.Subgraphs(0)
    codes = [root.OperatorCodes(graph.Operators(i).OpcodeIndex()) for i in range(graph.OperatorsLength())]
    # Old files keep the code in the deprecated field, which ends at 127.
    return [kinds[max(code.BuiltinCode(), code.DeprecatedBuiltinCode())] for code in codes]


def _tensor(root: Any, tensor: Any) -> Tensor:
    quantization = tensor.Quantization()
    scaled = quantization is not None and quantization.ScaleLength() > 0
    return Tensor(
        name=tensor.Name().decode(),
        type=tensor.Type(),
        scale=np.asarray(quantization.ScaleAsNumpy(), np.float64) if scaled else np.empty(0),
        constant=root.Buffers(tensor.Buffer()).DataLength() > 0,
    )

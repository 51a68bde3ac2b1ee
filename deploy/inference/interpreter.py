"""One interpreter over the TFLite runtimes."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.messages import one_line
from slimcam.deploy.inference.probe import probe
from slimcam.deploy.inference.xnnpack import opened

# ai-edge-litert is the default; tflite-runtime, which ended at 2.14, serves devices that cannot have its successor.
RUNTIMES = (("ai-edge-litert", "ai_edge_litert.interpreter"), ("tflite-runtime", "tflite_runtime.interpreter"))


@dataclass(frozen=True)
class Runtime:
    """Which library executes the model."""

    name: str
    version: str


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model. `scale` is 0 where the tensor is not quantized."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int


@dataclass(frozen=True)
class Delegation:
    """How much of a model its delegate executes.

    Attributes:
        delegate: "XNNPACK", or "none" where nothing is delegated.
        delegated: operators of the model's graph which the delegate executes.
        total: operators of the model's graph.
        left_out: the other operators, for example `"3 AVERAGE_POOL_2D"`: index in the graph and kind.
    """

    delegate: str
    delegated: int
    total: int
    left_out: tuple[str, ...]

    @property
    def complete(self) -> bool:
        return self.delegated == self.total


class Interpreter:
    """A TFLite model, ready to run. A file is tried in a process of its own first, see `probe`.

    Attributes:
        inputs: What the model takes, in its order.
        outputs: What it gives.

    Raises:
        FileNotFoundError: there is no such model file.
        ImportError: no TFLite runtime is installed.
        ValueError: the file is not a TFLite model.
        RuntimeError: the runtime or its XNNPACK delegate refuses the model.
    """

    def __init__(self, model: Path | bytes, threads: int = 1) -> None:
        title = "the model" if isinstance(model, bytes) else str(model)
        if not isinstance(model, bytes) and not model.is_file():
            raise FileNotFoundError(f"{model}: there is no such model file")
        self.runtime, library = import_runtime()
        source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        try:
            if not isinstance(model, bytes):
                probe(model, library.__name__)
            self._interpreter = opened(library, threads, **source)
        except ValueError as error:
            raise ValueError(f"{title}: not a whole TFLite model ({one_line(error)}); make or copy it again") from error
        except RuntimeError as error:
            raise RuntimeError(_refusal(title, error)) from error
        self.inputs = tuple(map(_tensor, self._interpreter.get_input_details()))
        self.outputs = tuple(map(_tensor, self._interpreter.get_output_details()))
        self._title = title

    @property
    def input(self) -> TensorInfo:
        """The input of a model that has one.

        Raises:
            ValueError: it has several.
        """
        return self._only(self.inputs, "input")

    @property
    def output(self) -> TensorInfo:
        """The output of a model that has one.

        Raises:
            ValueError: it has several.
        """
        return self._only(self.outputs, "output")

    def _only(self, tensors: tuple[TensorInfo, ...], role: str) -> TensorInfo:
        if len(tensors) != 1:
            names = ", ".join(tensor.name for tensor in tensors)
            raise ValueError(
                f"{self._title}: a model with one {role} is needed here, it has {len(tensors)} ({names}); export it "
                "with one"
            )
        return tensors[0]

    def run(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Feeds the input tensors as they are (no quantization) and returns copies of the output tensors."""
        self.feed(*arrays)
        self.invoke()
        return self.results()

    def feed(self, *arrays: NDArray[Any]) -> None:
        for tensor, array in zip(self.inputs, arrays, strict=True):
            self._interpreter.set_tensor(tensor.index, array)

    def invoke(self) -> None:
        self._interpreter.invoke()

    def results(self) -> tuple[NDArray[Any], ...]:
        return tuple(self._interpreter.get_tensor(tensor.index) for tensor in self.outputs)

    def macs(self) -> int:
        """Multiply-accumulates of the convolutions and dense layers for one image, padding included."""
        shapes = {
            tensor["index"]: tuple(map(int, tensor["shape"])) for tensor in self._interpreter.get_tensor_details()
        }
        total = 0
        for node in self._interpreter._get_ops_details():
            kind = node["op_name"]
            if kind not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
                continue
            kernel, output = shapes[int(node["inputs"][1])], shapes[int(node["outputs"][0])]
            total += math.prod(output) * math.prod(kernel[1:3] if kind == "DEPTHWISE_CONV_2D" else kernel[1:])
        return total

    def delegation(self) -> Delegation:
        """Tells which operators the delegate took over.

        A delegate leaves the original operators in the list and appends a DELEGATE node for each part that it
        took; the operators of that part are those found by walking from the node's outputs back to its inputs.
        """
        nodes = self._interpreter._get_ops_details()
        operators = [node for node in nodes if node["op_name"] != "DELEGATE"]
        parts = [node for node in nodes if node["op_name"] == "DELEGATE"]
        maker = {int(tensor): node for node in operators for tensor in node["outputs"]}
        taken: set[int] = set()
        for part in parts:
            borders = {int(tensor) for tensor in part["inputs"]}
            pending = [int(tensor) for tensor in part["outputs"]]
            while pending:
                node = maker.get(pending.pop())
                if node is None or node["index"] in taken:
                    continue
                taken.add(node["index"])
                pending.extend(int(tensor) for tensor in node["inputs"] if int(tensor) not in borders)
        return Delegation(
            # The only one that a runtime applies by itself, or that it is given.
            delegate="XNNPACK" if parts else "none",
            delegated=len(taken),
            total=len(operators),
            left_out=tuple(f"{node['index']} {node['op_name']}" for node in operators if node["index"] not in taken),
        )


def import_runtime() -> tuple[Runtime, Any]:
    """The runtime to use and its module with the `Interpreter` class.

    Raises:
        ImportError: none is installed.
    """
    for package, module in RUNTIMES:
        try:
            library = importlib.import_module(module)
        except ImportError:
            continue
        return Runtime(package, importlib.metadata.version(package)), library
    raise ImportError("no TFLite runtime is installed: pip install ai-edge-litert (or tflite-runtime on an old device)")


def _refusal(title: str, error: RuntimeError) -> str:
    """One line for a model that the runtime refuses, with the known cause where it is XNNPACK that does."""
    if "XNNPACK" not in str(error):
        return f"{title}: the TFLite runtime refuses the model ({one_line(error)})"
    # https://github.com/google/XNNPACK/issues/3693
    return (
        f"{title}: XNNPACK refuses the model ({one_line(error)}); the usual cause is a convolution or dense layer "
        "whose input scale * weight scale / output scale is 256 or more, from a dead channel or a tiny activation range"
    )


def _tensor(detail: dict[str, Any]) -> TensorInfo:
    scale, zero_point = detail["quantization"]
    return TensorInfo(
        index=int(detail["index"]),
        name=str(detail["name"]),
        shape=tuple(int(size) for size in detail["shape"]),
        dtype=np.dtype(detail["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )

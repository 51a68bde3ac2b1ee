"""The zeros among the weights of a TFLite file."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_NUMBERS: dict[int, Any] = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.INT8: np.int8,
}


def zero_share(content: bytes) -> float | None:
    """The share of the weights of all kernels that are zero; None without a kernel in float or int8.

    Kernels are constants of two axes or more. Those that are stored without their zeros count with them.

    Args:
        content: of a `.tflite` file.
    """
    root = schema.Model.GetRootAs(content)
    graph = root.Subgraphs(0)
    filled = total = 0
    for index in range(graph.TensorsLength()):
        tensor = graph.Tensors(index)
        data = root.Buffers(tensor.Buffer())
        if tensor.Type() not in _NUMBERS or tensor.ShapeLength() < 2 or not data.DataLength():
            continue
        values = np.frombuffer(data.DataAsNumpy().tobytes(), _NUMBERS[tensor.Type()])
        filled += int(np.count_nonzero(values))
        total += math.prod(int(size) for size in tensor.ShapeAsNumpy())
    return 1 - filled / total if total else None

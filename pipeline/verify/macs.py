"""Multiply-accumulates of a model file for one image: convolutions, dense layers and products of matrices."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from slimcam.training.tasks.recognition.runners import NcnnRunner, Runner, TfliteRunner


def count_macs(path: Path, runner: Runner) -> int | None:
    """The multiply-accumulates of a model; `None` where a part of it cannot be counted."""
    if isinstance(runner, TfliteRunner):
        return runner.interpreter.macs()
    if isinstance(runner, NcnnRunner):
        return _of_ncnn(path, runner)
    return _of_onnx(path, runner) if path.suffix == ".onnx" else _of_keras(path)


def _of_keras(path: Path) -> int | None:
    import keras

    from slimcam.compression.errors import CompressionError
    from slimcam.compression.pruning.cost import cost

    try:
        found = cost(keras.saving.load_model(path, compile=False))
    except CompressionError:
        return None
    return None if found.uncounted else found.macs


def _of_onnx(path: Path, runner: Runner) -> int:
    """The shapes of inner values are those of one inference: what a file says of them need not be complete."""
    import onnx
    import onnxruntime

    graph = (model := onnx.load(path)).graph
    nodes = [node for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    wanted = {name for node in nodes for name in (*node.input[:2], node.output[0])} - set(shapes)
    inner = [name for node in graph.node for name in node.output if name in wanted]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in inner)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    shape = (3, runner.height, runner.width) if source.shape[1] == 3 else (runner.height, runner.width, 3)
    found = session.run(inner, {source.name: np.zeros((1, *shape), np.float32)})
    shapes |= {source.name: (1, *shape), **{name: value.shape for name, value in zip(inner, found, strict=True)}}
    total = 0
    for node in nodes:
        first, second, output = (shapes[name] for name in (*node.input[:2], node.output[0]))
        turned = any(each.name == "transA" and each.i for each in node.attribute)
        sums = math.prod(second[1:]) if node.op_type == "Conv" else first[0] if turned else first[-1]
        total += math.prod(output) * sums
    return total


def _of_ncnn(path: Path, runner: NcnnRunner) -> int | None:
    """The sizes of outputs are those of one inference."""
    image = runner.image(np.zeros((runner.height, runner.width, 3), np.uint8))
    total = 0
    for line in path.read_text().splitlines()[2:]:
        kind, _, inputs, outputs, *rest = line.split()
        blobs, options = rest[: int(inputs) + int(outputs)], dict(word.split("=") for word in rest if "=" in word)
        if kind in ("Convolution", "ConvolutionDepthWise"):
            total += int(options["6"]) * math.prod(runner.extract(image, blobs[-1]).shape[1:])
        elif kind == "InnerProduct":
            total += int(options["2"])
        elif kind in ("Deconvolution", "DeconvolutionDepthWise", "Gemm", "MatMul", "MultiHeadAttention"):
            return None
    return total

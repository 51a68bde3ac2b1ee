"""Models on the device: one interpreter over the TFLite runtimes, and what the bundles describe."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle, InputSpec, load_bundle

# ai-edge-litert is the default; tflite-runtime, which ended at 2.14, serves devices that cannot have its successor.
RUNTIMES = (("ai-edge-litert", "ai_edge_litert.interpreter"), ("tflite-runtime", "tflite_runtime.interpreter"))

# Outputs for the golden images must agree with the recorded ones this well: kernels of another CPU may round
# differently, but a wrong preprocessing constant or a swapped colour order falls far below.
GOLDEN_COSINE = 0.999


@dataclass(frozen=True)
class Runtime:
    """Which library executes the model."""

    name: str
    version: str


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of a model. `scale` is 0 where the tensor is not quantised."""

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
    """A TFLite model with one input and one output, ready to run.

    Raises:
        FileNotFoundError: there is no such model file.
        ImportError: no TFLite runtime is installed.
        ValueError: the file is not a TFLite model, or not one with a single input and output.
        RuntimeError: the runtime or its XNNPACK delegate refuses the model.
    """

    def __init__(self, model: Path | bytes, threads: int = 1) -> None:
        title = "the model" if isinstance(model, bytes) else str(model)
        if not isinstance(model, bytes) and not model.is_file():
            raise FileNotFoundError(f"{model}: there is no such model file")
        self.runtime, library = import_runtime()
        source = {"model_content": model} if isinstance(model, bytes) else {"model_path": str(model)}
        try:
            self._interpreter = library.Interpreter(**source, num_threads=threads)
            self._interpreter.allocate_tensors()
        except ValueError as error:
            raise ValueError(f"{title}: not a whole TFLite model ({_line(error)}); make or copy it again") from error
        except RuntimeError as error:
            raise RuntimeError(_refusal(title, error)) from error
        self.input = _only(self._interpreter.get_input_details(), title, "input")
        self.output = _only(self._interpreter.get_output_details(), title, "output")

    def run(self, array: NDArray[Any]) -> NDArray[Any]:
        """Feeds the input tensor as it is (no quantisation) and returns a copy of the output tensor."""
        self.feed(array)
        self.invoke()
        return self.result()

    def feed(self, array: NDArray[Any]) -> None:
        self._interpreter.set_tensor(self.input.index, array)

    def invoke(self) -> None:
        self._interpreter.invoke()

    def result(self) -> NDArray[Any]:
        output: NDArray[Any] = self._interpreter.get_tensor(self.output.index)
        return output

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
            # Interpreter() is given no delegate, and the only one that a runtime applies by itself is XNNPACK.
            delegate="XNNPACK" if parts else "none",
            delegated=len(taken),
            total=len(operators),
            left_out=tuple(f"{node['index']} {node['op_name']}" for node in operators if node["index"] not in taken),
        )


class Model:
    """A model file with its preprocessing: images in, arrays out.

    Args:
        model: a .tflite file or its content.
        spec: size and preprocessing of the model's input.
        threads: of the interpreter.

    Attributes:
        shape: of what the model gives for one image.

    Raises:
        ValueError: the model has another input.
    """

    def __init__(self, model: Path | bytes, spec: InputSpec, threads: int = 1) -> None:
        self.interpreter = Interpreter(model, threads)
        self.spec = spec
        taken, expected = self.interpreter.input.shape, (1, spec.height, spec.width, 3)
        if taken != expected:
            raise ValueError(f"the model takes {taken}; expected is {expected}")
        self.shape = self.interpreter.output.shape[1:]
        self._table = input_table(spec, self.interpreter.input)

    def output(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model gives for an image, `(height, width, 3)` uint8 RGB of its size."""
        found = self.interpreter.run(look_up(self._table, image)[np.newaxis])
        output: NDArray[np.float32] = dequantised(found, self.interpreter.output)[0]
        return output

    def outputs(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same for each of `(N, height, width, 3)`."""
        found = np.empty((len(images), *self.shape), np.float32)
        for i, image in enumerate(images):
            found[i] = self.output(image)
        return found


class BundledModel(Model):
    """The model of a bundle, giving what it gave when the bundle was made.

    Args:
        bundle: a bundle, or the folder of one.
        task: that the bundle must be for; any if `None`.
        threads: of the interpreter.
        check: run the golden images first and compare.

    Raises:
        ValueError: the bundle is damaged, for another task, does not fit its model, or its golden outputs are not
            reproduced.
    """

    def __init__(
        self, bundle: Bundle | Path | str, task: str | None = None, threads: int = 1, check: bool = True
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        if task is not None and self.bundle.task != task:
            raise ValueError(f"bundle {self.bundle.path} is for {self.bundle.task}, not for {task}; give another one")
        try:
            super().__init__(self.bundle.model, self.bundle.input, threads)
        except ValueError as error:
            raise ValueError(f"bundle {self.bundle.path}: {error}; make the bundle again") from error
        if self.bundle.golden_output.shape[1:] != self.shape:
            raise ValueError(
                f"bundle {self.bundle.path}: the model gives {self.shape}, its golden outputs are "
                f"{self.bundle.golden_output.shape[1:]}; make the bundle again"
            )
        if check:
            self._check_golden()

    def _check_golden(self) -> None:
        bundle = self.bundle
        cosines = agreement(self.outputs(bundle.golden_input), bundle.golden_output)
        if not cosines.min() >= GOLDEN_COSINE:
            raise ValueError(
                f"bundle {bundle.path}: golden image {int(cosines.argmin())} gives another output on this device "
                f"(cosine {cosines.min():.4f}, at least {GOLDEN_COSINE} expected; "
                f"{self.interpreter.runtime.name} {self.interpreter.runtime.version}); do not use it here"
            )


class Recognizer(BundledModel):
    """Turns aligned faces into embeddings; arguments and errors are those of `BundledModel`."""

    def __init__(self, bundle: Bundle | Path | str, threads: int = 1, check: bool = True) -> None:
        super().__init__(bundle, "recognition", threads, check)
        self.embedding_size = math.prod(self.shape)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeds `(N, H, W, 3)` uint8 RGB faces, resized to the model's input where they differ from it.

        Returns:
            `(N, E)` float32, L2-normalised.

        Raises:
            ValueError: the images are of another shape or type.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"faces must be uint8 RGB of shape (N, H, W, 3); got {images.dtype} {images.shape}")
        embeddings = np.empty((len(images), self.embedding_size), np.float32)
        for i, image in enumerate(images):
            embeddings[i] = self.output(resized(image, self.spec.height, self.spec.width)).ravel()
        return l2_normalise(embeddings)


def input_table(spec: InputSpec, tensor: TensorInfo) -> NDArray[Any]:
    """What each of the 256 pixel values becomes in the input tensor: normalised, and quantised if the tensor is.

    Rounds half away from zero, as TFLite's QUANTIZE does.

    Raises:
        ValueError: the tensor is neither float32 nor quantised int8 or uint8.
    """
    values = (np.arange(256, dtype=np.float64) - spec.mean) / spec.scale
    if tensor.dtype == np.float32:
        return values.astype(np.float32)
    if tensor.dtype not in (np.int8, np.uint8) or tensor.scale <= 0:
        raise ValueError(f"the model's input must be float32, or int8 or uint8 with a scale; it is {tensor.dtype}")
    scaled = values / tensor.scale
    rounded = np.copysign(np.floor(np.abs(scaled) + 0.5), scaled) + tensor.zero_point
    limits = np.iinfo(tensor.dtype)
    table: NDArray[Any] = np.clip(rounded, limits.min, limits.max).astype(tensor.dtype)
    return table


def look_up(table: NDArray[Any], image: NDArray[np.uint8]) -> NDArray[Any]:
    """What `input_table` makes of each pixel of an image, `table[image]`."""
    # Ten times faster than numpy's indexing.
    values: NDArray[Any] = cv2.LUT(image, table)
    return values


def resized(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """An image `(h, w, 3)` at another size: pixels are averaged where it shrinks, interpolated where it grows."""
    if image.shape[:2] == (height, width):
        return image
    smaller = height * width < image.shape[0] * image.shape[1]
    result: NDArray[np.uint8] = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )
    return result


def l2_normalise(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scales each row of `(N, E)` to length 1; a row of zeros stays zero."""
    norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
    normalised: NDArray[np.float32] = (embeddings / np.maximum(norms, 1e-12)).astype(np.float32)
    return normalised


def agreement(found: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """How alike two lists of outputs, `(N, ...)`, are: the cosine of each pair, `(N,)`."""
    count = len(found)
    pairs = (l2_normalise(outputs.reshape(count, -1)) for outputs in (found, expected))
    return np.asarray(np.einsum("ne,ne->n", *pairs), dtype=np.float32)


def dequantised(values: NDArray[Any], tensor: TensorInfo) -> NDArray[np.float32]:
    """The real numbers that a tensor's values stand for."""
    if tensor.scale == 0:
        return values.astype(np.float32)
    real: NDArray[np.float32] = (values.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    return real


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
        return f"{title}: the TFLite runtime refuses the model ({_line(error)})"
    # https://github.com/google/XNNPACK/issues/3693
    return (
        f"{title}: XNNPACK refuses the model ({_line(error)}); the usual cause is a convolution or dense layer whose "
        "input scale * weight scale / output scale is 256 or more, from a dead channel or a tiny activation range"
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _only(details: list[dict[str, Any]], title: str, role: str) -> TensorInfo:
    if len(details) != 1:
        raise ValueError(f"{title}: the model must have one {role}, it has {len(details)}; export it with one")
    (tensor,) = details
    scale, zero_point = tensor["quantization"]
    return TensorInfo(
        index=int(tensor["index"]),
        name=str(tensor["name"]),
        shape=tuple(int(size) for size in tensor["shape"]),
        dtype=np.dtype(tensor["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )

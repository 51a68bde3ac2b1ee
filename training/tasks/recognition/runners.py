"""Recognizers as files, each run by the library of its format: `.tflite`, `.onnx`, `.keras`, or `.param` of ncnn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.messages import did_you_mean
from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.inference.pixels import normalized
from slimcam.deploy.inference.preprocessing import dequantized, input_table, look_up
from slimcam.training.data.images import IMAGE_SIZE

Pixels = NDArray[np.uint8]
Float = NDArray[np.float32]


class Runner(Protocol):
    """A model that is ready to run; several threads may use it at once.

    Attributes:
        height: Height of the images that it takes, pixels.
        width: Width of the images that it takes, pixels.
    """

    height: int
    width: int

    def outputs(self, faces: Pixels) -> list[Float]:
        """What the model gives for `(N, height, width, 3)`: embeddings `(N, E)`, then a feature map if asked for."""

    def prepared(self, face: Pixels) -> Callable[[], object]:
        """One inference on a face, `(height, width, 3)`, that is in the model's own form already, for a clock."""


def open_runner(path: Path, spec: InputSpec, threads: int = 1, features: str | None = None) -> Runner:
    """Opens a model file.

    Args:
        path: `.tflite`, `.onnx`, `.keras`, or the `.param` of ncnn, whose `.bin` lies beside it.
        spec: What the model reads of a pixel; the size that it takes is the file's.
        threads: Number of threads of one inference, where the library can be told.
        features: Name of an inner value of an `.onnx` file, to give as a second output.

    Raises:
        FileNotFoundError: no such file.
        ImportError: the library of that format is not installed.
        ValueError: the file's kind is unknown, or it has no such inner value. What a library raises on a file that is
            not a model is its own.
    """
    if path.suffix not in RUNNERS:
        raise ValueError(f"{path.name}: expected a {', '.join(list(RUNNERS)[:-1])} or {list(RUNNERS)[-1]} file")
    if not path.is_file():
        raise FileNotFoundError(f"no file {path}")
    if features and path.suffix != ".onnx":
        raise ValueError(f"feature maps are read from .onnx files, not from {path.name}")
    if path.suffix == ".onnx":
        return OnnxRunner(path, spec, threads, features)
    return RUNNERS[path.suffix](path, spec, threads)


class TfliteRunner:
    """A `.tflite` file on the runtime of the devices; `Runner`."""

    def __init__(self, path: Path, spec: InputSpec, threads: int = 1) -> None:
        self.interpreter = Interpreter(path, threads)
        self.height, self.width = self.interpreter.input.shape[1:3]
        self._spec, self._table = spec, input_table(spec, self.interpreter.input)
        self._lock = threading.Lock()

    def outputs(self, faces: Pixels) -> list[Float]:
        with self._lock:
            found = [self.interpreter.run(self._image(face))[0] for face in faces]
        return [dequantized(np.concatenate(found), self.interpreter.output).reshape(len(faces), -1)]

    def prepared(self, face: Pixels) -> Callable[[], object]:
        self.interpreter.feed(self._image(face))
        return self.interpreter.invoke

    def _image(self, face: Pixels) -> NDArray[Any]:
        values = look_up(self._table, face)[np.newaxis]
        return np.ascontiguousarray(values[..., ::-1]) if self._spec.order == "bgr" else values


class OnnxRunner:
    """An `.onnx` file on ONNX Runtime; `Runner`."""

    def __init__(self, path: Path, spec: InputSpec, threads: int = 1, features: str | None = None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Threads of the caller are many already, and its own would wait spinning while the student trains.
        options.intra_op_num_threads = threads
        model = _with_output(path, features) if features else path.read_bytes()
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        source = self._session.get_inputs()[0]
        self._input, self._spec = source.name, spec
        self._channels_first = source.shape[1] == 3
        self._one_by_one = source.shape[0] == 1
        sides = source.shape[2:4] if self._channels_first else source.shape[1:3]
        # A size that the file leaves open is a whole face's.
        self.height, self.width = (side if isinstance(side, int) else IMAGE_SIZE for side in sides)
        self._names = [self._session.get_outputs()[0].name] + ([features] if features else [])

    def outputs(self, faces: Pixels) -> list[Float]:
        images = self._images(faces)
        parts = np.split(images, len(images)) if self._one_by_one else [images]
        outputs_of_parts = [self._session.run(self._names, {self._input: part}) for part in parts]
        outputs = [np.concatenate(found) for found in zip(*outputs_of_parts, strict=True)]
        embeddings = outputs[0].reshape(len(images), -1).astype(np.float32)
        maps = outputs[1:]
        return [embeddings, *(found.transpose(0, 2, 3, 1) if self._channels_first else found for found in maps)]

    def prepared(self, face: Pixels) -> Callable[[], object]:
        image = self._images(face[None])
        return lambda: self._session.run(self._names, {self._input: image})

    def _images(self, faces: Pixels) -> Float:
        images = normalized(faces, self._spec)
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self._channels_first else images


class KerasRunner:
    """A `.keras` file on the backend of Keras; `Runner`. Threads are set by the backend's own means."""

    def __init__(self, path: Path, spec: InputSpec, threads: int = 1) -> None:
        import keras

        del threads
        self._model = keras.saving.load_model(path, compile=False)
        self.height, self.width = (int(side) for side in self._model.inputs[0].shape[1:3])
        self._spec = spec
        self._lock = threading.Lock()

    def outputs(self, faces: Pixels) -> list[Float]:
        with self._lock:
            found = np.asarray(self._model.predict_on_batch(normalized(faces, self._spec)), dtype=np.float32)
        return [found.reshape(len(faces), -1)]

    def prepared(self, face: Pixels) -> Callable[[], object]:
        image = normalized(face[np.newaxis], self._spec)
        return lambda: self._model.predict_on_batch(image)


class NcnnRunner:
    """A `.param` file, and the `.bin` beside it, on ncnn; `Runner`. It takes whole faces, 112x112."""

    def __init__(self, path: Path, spec: InputSpec, threads: int = 1) -> None:
        try:
            import ncnn
        except ImportError as error:
            raise ImportError("ncnn is not installed: pip install 'slimcam[ncnn]'") from error

        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise FileNotFoundError(f"no file {weights}, the weights of {path.name}")
        self._mat, self.net = ncnn.Mat, ncnn.Net()
        self.net.opt.num_threads = threads
        if self.net.load_param(str(path)) or self.net.load_model(str(weights)):
            raise ValueError(f"{path.name}: ncnn cannot read it, or {weights.name} beside it")
        (self._input,), self._output = self.net.input_names(), self.net.output_names()[0]
        self.height = self.width = IMAGE_SIZE
        self._spec = spec

    def outputs(self, faces: Pixels) -> list[Float]:
        return [np.stack([self.extract(self.image(face), self._output).ravel() for face in faces])]

    def prepared(self, face: Pixels) -> Callable[[], object]:
        image = self.image(face)
        return lambda: self.extract(image, self._output)

    def image(self, face: Pixels) -> Any:
        """ncnn's own array of a face."""
        planes = np.ascontiguousarray(normalized(face, self._spec).transpose(2, 0, 1))
        # A copy: ncnn's array uses the memory of NumPy's without keeping it.
        return self._mat(planes).clone()

    def extract(self, image: Any, blob: str) -> Float:
        """The value of a blob for an image."""
        extractor = self.net.create_extractor()
        extractor.input(self._input, image)
        return np.array(extractor.extract(blob)[1])


RUNNERS: dict[str, Callable[[Path, InputSpec, int], Runner]] = {
    ".tflite": TfliteRunner,
    ".onnx": OnnxRunner,
    ".keras": KerasRunner,
    ".param": NcnnRunner,
}
"""The formats by the suffix of their files."""


def _with_output(path: Path, name: str) -> bytes:
    """The model with one of its inner values, a feature map, as a further output."""
    import onnx

    model = onnx.load(path)
    inner = [output for node in model.graph.node for output in node.output]
    if name not in inner:
        raise ValueError(f"it has no value {name!r}{did_you_mean(name, inner, 0.3)}")
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
    content: bytes = model.SerializeToString()
    return content

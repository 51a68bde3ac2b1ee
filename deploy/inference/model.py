"""Models on the device: images in, arrays out, as the bundle describes it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.inference.bundle import Bundle, InputSpec, load_bundle
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.inference.preprocessing import (
    agreement,
    dequantized,
    input_table,
    look_up,
    middle_square,
    quantized,
    resized,
)

_GOLDEN_COSINES = {"recognition": 0.985}
_GOLDEN_COSINE = 0.999


def golden_cosine(task: str) -> float:
    """How well outputs for the golden images must agree with the recorded ones.

    TFLite's own kernels round differently from XNNPACK's, which not every device has. The embedding layer of a
    recognizer makes a difference of one step in the pooled features one of twelve steps: the recognizer of slimcam
    gives a cosine of 0.992 on TFLite's. Images shifted by a pixel give it at most 0.982, swapped colors and pixels
    from 0 to 1 0.93.
    """
    return _GOLDEN_COSINES.get(task, _GOLDEN_COSINE)


class Model:
    """A model file with its preprocessing: images in, arrays out.

    Args:
        model: a .tflite file or its content.
        spec: size and preprocessing of the model's input.
        threads: Number of threads of the interpreter.

    Attributes:
        shape: Shape of the model's output for one image.

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
        # For all images: memory that is new each time has to be mapped each time.
        self._values = np.empty((spec.height, spec.width, 3), self._table.dtype)

    def output(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model gives for an image, `(height, width, 3)` uint8 RGB of its size."""
        values = look_up(self._table, image, self._values)
        if self.spec.order == "bgr":
            values = np.ascontiguousarray(values[..., ::-1])
        (found,) = self.interpreter.run(values[np.newaxis])
        output: NDArray[np.float32] = dequantized(found, self.interpreter.output)[0]
        return output

    def outputs(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The same for each of `(N, height, width, 3)`."""
        found = np.empty((len(images), *self.shape), np.float32)
        for i, image in enumerate(images):
            found[i] = self.output(image)
        return found


class ArrayModel:
    """The model of a bundle, of any inputs and outputs: arrays in, arrays out.

    Args:
        bundle: a bundle, or the folder of one.
        threads: Number of threads of the interpreter.
        check: run the golden arrays first and compare.

    Raises:
        BundleError: The bundle is damaged, does not fit its model, or its golden outputs are not reproduced.

    Example:
        >>> left, right = ArrayModel("runs/pairs/bundle").run(one, other)
    """

    def __init__(self, bundle: Bundle | Path | str, threads: int = 1, check: bool = True) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        if self.bundle.image is not None:
            raise BundleError(f"bundle {self.bundle.path}: the model takes an image; open it as a BundledModel")
        try:
            self.interpreter = Interpreter(self.bundle.model, threads)
        except ValueError as error:
            raise BundleError(f"bundle {self.bundle.path}: {error}; make the bundle again") from error
        taken = [tensor.shape for tensor in self.interpreter.inputs]
        given = [tensor.shape for tensor in self.interpreter.outputs]
        for stated, found, verb in ((self.bundle.inputs, taken, "takes"), (self.bundle.outputs, given, "gives")):
            shapes = [(1, *spec.shape) for spec in stated.specs]
            if found != shapes:
                raise BundleError(
                    f"bundle {self.bundle.path}: the model {verb} {found}, the bundle says {shapes}; make it again"
                )
        if check:
            examples = [self.run(*example) for example in zip(*self.bundle.inputs.golden, strict=True)]
            for outputs, expected in zip(zip(*examples, strict=True), self.bundle.outputs.golden, strict=True):
                _require_golden(self.bundle, self.interpreter, np.stack(outputs), expected)

    def run(self, *arrays: NDArray[Any]) -> tuple[NDArray[np.float32], ...]:
        """What the model gives for one example, an array of the stated shape for each input.

        Raises:
            ValueError: the arrays are of another number or shape.
        """
        expected = [spec.shape for spec in self.bundle.inputs.specs]
        if [array.shape for array in arrays] != expected:
            raise ValueError(f"the model takes arrays of {expected}; got {[array.shape for array in arrays]}")
        fed = [
            quantized(array[np.newaxis], tensor) for array, tensor in zip(arrays, self.interpreter.inputs, strict=True)
        ]
        found = self.interpreter.run(*fed)
        return tuple(dequantized(each, tensor)[0] for each, tensor in zip(found, self.interpreter.outputs, strict=True))


def _require_golden(
    bundle: Bundle, interpreter: Interpreter, found: NDArray[np.float32], expected: NDArray[np.float32]
) -> None:
    """Raises a BundleError where outputs, `(K, ...)`, are not what they were when the bundle was made."""
    cosines, least = agreement(found, expected), golden_cosine(bundle.task)
    # Outputs of zeros alone have no direction.
    cosines[[not (given.any() or wanted.any()) for given, wanted in zip(found, expected, strict=True)]] = 1
    if not cosines.min() >= least:
        raise BundleError(
            f"bundle {bundle.path}: golden example {int(cosines.argmin())} gives another output on this device "
            f"(cosine {cosines.min():.4f}, at least {least} expected; {interpreter.runtime.name} "
            f"{interpreter.runtime.version}); do not use it here"
        )


class BundledModel(Model):
    """The model of a bundle, giving what it gave when the bundle was made.

    Args:
        bundle: a bundle, or the folder of one.
        task: Task that the bundle must be for; any if `None`.
        threads: Number of threads of the interpreter.
        check: run the golden images first and compare.

    Raises:
        BundleError: The bundle is damaged, for another task, does not fit its model, or its golden outputs are not
            reproduced.
    """

    def __init__(
        self, bundle: Bundle | Path | str, task: str | None = None, threads: int = 1, check: bool = True
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
        if task is not None and self.bundle.task != task:
            raise BundleError(f"bundle {self.bundle.path} is for {self.bundle.task}, not for {task}; give another one")
        try:
            super().__init__(self.bundle.model, self.bundle.input, threads)
        except ValueError as error:
            raise BundleError(f"bundle {self.bundle.path}: {error}; make the bundle again") from error
        if self.bundle.golden_output.shape[1:] != self.shape:
            raise BundleError(
                f"bundle {self.bundle.path}: the model gives {self.shape}, its golden outputs are "
                f"{self.bundle.golden_output.shape[1:]}; make the bundle again"
            )
        if check:
            _require_golden(
                self.bundle, self.interpreter, self.outputs(self.bundle.golden_input), self.bundle.golden_output
            )


class Recognizer(BundledModel):
    """Turns aligned faces into embeddings; arguments and errors are those of `BundledModel`."""

    def __init__(self, bundle: Bundle | Path | str, threads: int = 1, check: bool = True) -> None:
        super().__init__(bundle, "recognition", threads, check)
        self.embedding_size = math.prod(self.shape)

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embeds `(N, H, W, 3)` uint8 RGB faces, resized to the model's input where they differ from it.

        Returns:
            `(N, E)` float32, L2-normalized.

        Raises:
            ValueError: the images are of another shape or type.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f"faces must be uint8 RGB of shape (N, H, W, 3); got {images.dtype} {images.shape}")
        embeddings = np.empty((len(images), self.embedding_size), np.float32)
        for i, image in enumerate(images):
            embeddings[i] = self.output(resized(image, self.spec.height, self.spec.width)).ravel()
        return unit_length(embeddings)


@dataclass(frozen=True)
class Answer:
    """A class that a classifier names, and its probability."""

    name: str
    probability: float


class Classifier(BundledModel):
    """Names what images show; arguments and errors are those of `BundledModel`.

    classifier = Classifier("runs/classifier/bundle")
    classifier.classify(image)  # [Answer(name="stop", probability=0.98), ...]
    """

    def __init__(self, bundle: Bundle | Path | str, threads: int = 1, check: bool = True) -> None:
        super().__init__(bundle, "classification", threads, check)
        self.classes = self.bundle.classes
        if self.shape != (len(self.classes),):
            raise BundleError(
                f"bundle {self.bundle.path}: the model gives {self.shape}, the bundle names {len(self.classes)} "
                "classes; make the bundle again"
            )

    def logits(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits `(C,)` of an RGB image `(h, w, 3)` uint8, whose middle square is brought to the model's size."""
        return self.output(resized(middle_square(image), self.spec.height, self.spec.width))

    def classify(self, image: NDArray[np.uint8], most: int = 5) -> list[Answer]:
        """The classes that are most probable for an RGB image `(h, w, 3)` uint8, the first of them first."""
        logits = self.logits(image).astype(np.float64)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = np.argsort(-probabilities, kind="stable")[:most]
        return [Answer(self.classes[index], float(probabilities[index])) for index in best]

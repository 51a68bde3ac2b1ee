"""Models on the device: images in, arrays out, as the bundle describes it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.errors import BundleError
from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.inference.bundle import Bundle, InputSpec, load_bundle
from slimcam.deploy.inference.interpreter import Interpreter
from slimcam.deploy.inference.preprocessing import agreement, dequantized, input_table, look_up, resized

# Outputs for the golden images must agree with the recorded ones this well: kernels of another CPU may round
# differently, but a wrong preprocessing constant or a swapped color order falls far below.
GOLDEN_COSINE = 0.999


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

    def output(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """What the model gives for an image, `(height, width, 3)` uint8 RGB of its size."""
        (found,) = self.interpreter.run(look_up(self._table, image)[np.newaxis])
        output: NDArray[np.float32] = dequantized(found, self.interpreter.output)[0]
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
            self._check_golden()

    def _check_golden(self) -> None:
        bundle = self.bundle
        cosines = agreement(self.outputs(bundle.golden_input), bundle.golden_output)
        if not cosines.min() >= GOLDEN_COSINE:
            raise BundleError(
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

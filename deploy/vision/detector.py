"""Faces in frames: the project's own detector, and OpenCV's YuNet behind the same interface."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.inference.model import BundledModel, Model
from slimcam.deploy.vision.detector_output import CHANNELS, Faces, cell_centers, check_threshold, decode_faces
from slimcam.deploy.vision.letterbox import letterbox, undo_letterbox

YUNET_THRESHOLD = 0.6


class Detector(Protocol):
    """Finds faces in frames."""

    def detect(self, frame: NDArray[np.uint8]) -> Faces:
        """The faces in an RGB frame `(h, w, 3)` uint8 of any size.

        Raises:
            ValueError: the frame is of another shape or type.
        """
        ...


class FittingDetector(Detector, Protocol):
    """A detector that fits all frames into an input of one size."""

    @property
    def input(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        ...


class FaceDetector:
    """The project's own detector.

    Args:
        model: Model of a detector, see `slimcam.deploy.vision.detector_output`.
        threshold: the least score of a face, between 0 and 1.

    Raises:
        ValueError: the model is none of a detector, or the threshold is out of range.
    """

    def __init__(self, model: Model, threshold: float = 0.5) -> None:
        check_threshold(threshold)
        self.model, self.threshold = model, threshold
        height, width = model.spec.height, model.spec.width
        expected = (len(cell_centers(height, width)), CHANNELS)
        if model.shape != expected:
            raise ValueError(f"the model gives {model.shape}; a face detector at {width}x{height} gives {expected}")
        self._image = np.empty((height, width, 3), np.uint8)

    @property
    def input(self) -> tuple[int, int]:
        """See `FittingDetector`."""
        return self.model.spec.height, self.model.spec.width

    def detect(self, frame: NDArray[np.uint8]) -> Faces:
        """See `Detector`."""
        height, width = self.input
        image, scale = letterbox(frame, height, width, self._image)
        return undo_letterbox(decode_faces(self.model.output(image), height, width, self.threshold), scale)


def open_detector(path: Path | str, threshold: float | None = None, threads: int = 1) -> FittingDetector:
    """The detector of a bundle, or YuNet from its .onnx file.

    Args:
        path: Folder of the bundle, or the .onnx file.
        threshold: the least score of a face; `None` is the bundle's for one false face in ten images, or YuNet's usual.

    Raises:
        FileNotFoundError: there is no such bundle or file.
        ValueError: it is damaged or none of a detector, or the threshold is out of range.
    """
    if Path(path).suffix == ".onnx":
        return YuNet(Path(path), YUNET_THRESHOLD if threshold is None else threshold, threads)
    model = BundledModel(path, "detection", threads)
    return FaceDetector(model, model.bundle.thresholds.get("0.1", 0.5) if threshold is None else threshold)


class YuNet:
    """OpenCV's face detector (Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector").

    Args:
        model: its .onnx file.
        threshold: the least score of a face, between 0 and 1.
        threads: Number of OpenCV's threads, one for the whole process: the last one set holds.
        input: height and width that frames are fitted into, as `FaceDetector` does.

    Raises:
        FileNotFoundError: there is no such model file.
        ValueError: OpenCV cannot read the file, or an option is out of range.
    """

    def __init__(
        self, model: Path, threshold: float = YUNET_THRESHOLD, threads: int = 1, input: tuple[int, int] = (240, 320)
    ) -> None:
        check_threshold(threshold)
        if min(input) < 1 or threads < 1:
            raise ValueError(f"YuNet needs an input of 1x1 or more and 1 thread or more; got {input} and {threads}")
        if not model.is_file():
            raise FileNotFoundError(f"{model}: there is no such model file")
        self._input = input
        cv2.setNumThreads(threads)
        with _quiet():
            try:
                self._detector = cv2.FaceDetectorYN.create(str(model), "", input[::-1], threshold)
            except cv2.error as error:
                raise ValueError(f"{model}: OpenCV cannot read it as a YuNet model ({error.err})") from error

    @property
    def input(self) -> tuple[int, int]:
        """See `FittingDetector`."""
        return self._input

    def detect(self, frame: NDArray[np.uint8]) -> Faces:
        """See `Detector`."""
        image, scale = letterbox(frame, *self._input)
        _, found = self._detector.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        # Rows: box, the points (the person's right eye first, which is the left one in the picture), score.
        rows = np.empty((0, 15), np.float32) if found is None else found
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        return undo_letterbox(Faces(rows[:, 4:14].reshape(-1, 5, 2), rows[:, 14]), scale)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV's own lines on stderr: a warning about targets at each start, and errors that are raised too."""
    level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)

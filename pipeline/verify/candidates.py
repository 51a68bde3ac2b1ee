"""The recognizers that are compared: a bundle, or a file of any format with how its pixels are prepared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.messages import did_you_mean, first_line
from slimcam.deploy.inference.bundle import MODEL, InputSpec, is_bundle, load_bundle, place_of
from slimcam.deploy.inference.preprocessing import resized
from slimcam.pipeline.verify.macs import count_macs
from slimcam.training.data.images import IMAGE_SIZE, Images, ahead
from slimcam.training.data.recognition.batches import resize
from slimcam.training.fit.progress import Progress
from slimcam.training.tasks.recognition.config import TeacherModelConfig
from slimcam.training.tasks.recognition.runners import Runner, open_runner
from slimcam.training.tasks.recognition.teacher import cropped

Float = NDArray[np.float32]

_BATCH = 32


@dataclass(frozen=True)
class Candidate:
    """A recognizer that is ready to be compared.

    Attributes:
        name: Name in tables.
        file: File of the model, of a bundle the one inside.
        runner: Runs it.
        crop: Part of the face that it sees, `[top, left, height, width]`.
        size_bytes: Size of the file, or of both files of ncnn.
        macs: Multiply-accumulates for one face; `None` where they cannot be counted.
    """

    name: str
    file: Path
    runner: Runner
    crop: list[int]
    size_bytes: int
    macs: int | None

    def embed(self, faces: NDArray[np.uint8]) -> Float:
        """Embeddings `(N, E)` of `(N, 112, 112, 3)` uint8 RGB faces."""
        return self.runner.outputs(self._seen(faces))[0]

    def prepared(self) -> Callable[[], object]:
        """One inference on an image that is prepared already."""
        pixels = np.random.default_rng(0).integers(0, 256, (1, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        return self.runner.prepared(self._seen(pixels)[0])

    def embed_all(self, images: Images) -> Float:
        """Embeddings of all images, `(N, E)`.

        Raises:
            ValueError: some are not finite.
        """
        progress = Progress(len(images), f"embeddings of {self.name}", unit="images")
        parts = []
        # Not `ThreadPoolExecutor.map`, which reads all images before it gives the first result.
        for part in ahead(lambda start: self.embed(_faces(images, start)), range(0, len(images), _BATCH), workers=0):
            parts.append(part)
            progress.advance(len(part))
        progress.close()
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise ValueError(f"{self.name}: embeddings that are not finite; are mean and scale those that it asks for?")
        return found

    def _seen(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = self.runner.height, self.runner.width
        return np.stack([resized(face, height, width) for face in cropped(faces, self.crop)])


def open_candidates(specs: Sequence[str]) -> list[Candidate]:
    """Opens recognizers as they are named on the command line, see `open_candidate`.

    Raises:
        ValueError: two have one name; and what `open_candidate` raises.
    """
    found = [open_candidate(spec) for spec in specs]
    names = [candidate.name for candidate in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two models are named {sorted(twice)[0]}: give them other names, as in FILE,name=other")
    return found


def open_candidate(spec: str) -> Candidate:
    """Opens a recognizer.

    Args:
        spec: path of a bundle or name of one that comes with slimcam, or path of a `.tflite`, `.onnx`, `.keras` or
            ncnn `.param` file, then the options of `TeacherModelConfig` that differ from their defaults and its `name`:
            `FILE,scale=127.5,color=bgr,crop=0:8:112:96,name=x`. By default a model that takes less than a whole face
            gets the middle of it.

    Raises:
        FileNotFoundError: no such file.
        ImportError: the library of that format is not installed.
        ValueError: no such option, or the file is not a model that can be run.
    """
    text, *words = spec.split(",")
    path, options = place_of(Path(text)), _options(words, spec)
    name = options.pop("name", path.resolve().name.removesuffix(path.suffix if path.is_file() else ""))
    if is_bundle(path):
        if options:
            raise ValueError(f"{spec}: a bundle says itself how pixels are prepared; leave out {', '.join(options)}")
        bundle = load_bundle(path)
        if bundle.task != "recognition":
            raise ValueError(f"{path} is for {bundle.task}, not for recognition")
        path, pixels, crop = path / MODEL, bundle.input, None
    else:
        if path.suffix == ".keras":
            options = {"mean": InputSpec().mean, "scale": InputSpec().scale, **options}
        config = TeacherModelConfig(**options)
        pixels, crop = config.input, config.crop if "crop" in options else None
    try:
        runner = open_runner(path, pixels)
        crop = crop or _middle(runner.height, runner.width)
        candidate = Candidate(name, path, runner, crop, _size_bytes(path), count_macs(path, runner))
        candidate.prepared()()
    except (FileNotFoundError, ImportError):
        raise
    except Exception as error:  # the libraries raise what they like on a file that is not a model
        raise ValueError(f"{path} cannot be run: {first_line(error)}") from error
    return candidate


def _faces(images: Images, start: int) -> NDArray[np.uint8]:
    """A batch of whole faces, `(<= _BATCH, 112, 112, 3)`."""
    return np.stack([resize(images[index], IMAGE_SIZE) for index in range(start, min(start + _BATCH, len(images)))])


def _options(words: Sequence[str], spec: str) -> dict[str, Any]:
    known = {option.name for option in fields(TeacherModelConfig)} - {"path", "weight"} | {"name"}
    options: dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key not in known:
            raise ValueError(f"{spec}: no option {key!r}{did_you_mean(key, known)}")
        try:
            if key == "crop":
                options[key] = [int(part) for part in value.split(":")]
            else:
                options[key] = value if key in ("color", "name") else float(value)
        except ValueError as error:
            raise ValueError(f"{spec}: {key} is {'TOP:LEFT:HEIGHT:WIDTH' if key == 'crop' else 'a number'}") from error
    return options


def _middle(height: int, width: int) -> list[int]:
    """The part of a whole face that a model with such an input sees: all of it if square, else the middle."""
    if height == width or max(height, width) > IMAGE_SIZE:
        return [0, 0, IMAGE_SIZE, IMAGE_SIZE]
    return [(IMAGE_SIZE - height) // 2, (IMAGE_SIZE - width) // 2, height, width]


def _size_bytes(path: Path) -> int:
    files = [path, path.with_suffix(".bin")] if path.suffix == ".param" else [path]
    return sum(file.stat().st_size for file in files)

"""The targets that teachers give for training images or views of them, computed once and cached."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.deploy.common.messages import first_line
from slimcam.deploy.common.result_key import key_material
from slimcam.deploy.common.vectors import unit_length
from slimcam.deploy.inference.bundle import InputSpec
from slimcam.deploy.inference.pixels import normalized
from slimcam.training.data.images import IMAGE_SIZE, Images, Selection
from slimcam.training.data.recognition.batches import plain_batches, resize
from slimcam.training.data.recognition.teacher_targets import TargetSource, TeacherTargets
from slimcam.training.fit.progress import Progress
from slimcam.training.tasks.recognition.config import TeacherConfig, TeacherModelConfig
from slimcam.training.tasks.recognition.runners import open_runner

logger = logging.getLogger(__name__)

Float = NDArray[np.float32]
Teach = Callable[[NDArray[np.uint8]], TeacherTargets]

# So many faces are enough for the axes of a projection of some hundred dimensions.
_PROJECTED = 16384


@dataclass(frozen=True)
class ImageTargets:
    """TargetSource that are all known, in rows: one for each image, or a block of such rows for each of its `views`."""

    table: TeacherTargets
    views: int = 0

    @property
    def channels(self) -> int:
        return self.table.channels

    def __call__(
        self, indices: NDArray[np.int64], variants: NDArray[np.int64], images: NDArray[np.uint8]
    ) -> TeacherTargets:
        del images
        block = len(self.table.embeddings) // self.views if self.views else 0
        return self.table[variants * block + indices]


class ViewTargets:
    """TargetSource for each of `views` views of each image, computed when first asked for and kept in files.

    Rows that are not known yet are NaN. Several threads may ask at once.
    """

    def __init__(self, teach: Teach, files: Files, count: int, views: int) -> None:
        if not files.embeddings.is_file():
            example = teach(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8))
            if files.features is not None and example.features is not None:
                _create(files.features, (views * count, *example.features.shape[1:]), np.dtype(np.float16))
            # Written last: where it is, the others are.
            _create(files.embeddings, (views * count, example.embeddings.shape[1]), np.dtype(np.float32), np.nan)
        self.views = views
        self._teach, self._count = teach, count
        self._table = files.open("r+")
        self.channels = self._table.channels

    def absent(self) -> NDArray[np.int64]:
        """The rows that are not known yet."""
        return np.flatnonzero(np.isnan(self._table.embeddings[:, 0]))

    def __call__(
        self, indices: NDArray[np.int64], variants: NDArray[np.int64], images: NDArray[np.uint8]
    ) -> TeacherTargets:
        rows = variants * self._count + indices
        absent = np.isnan(self._table.embeddings[rows, 0])
        if absent.any():
            self._table.put(rows[absent], self._teach(images[absent]))
        return self._table[rows]


@dataclass(frozen=True)
class Files:
    """Where a teacher's embeddings are kept, and its feature maps, float16, if those are asked for as well."""

    embeddings: Path
    features: Path | None = None

    def open(self, mode: Literal["r", "r+"]) -> TeacherTargets:
        features = None if self.features is None else np.load(self.features, mmap_mode=mode)
        return TeacherTargets(np.load(self.embeddings, mmap_mode=mode), features)

    def __iter__(self) -> Iterator[Path]:
        return (file for file in (self.embeddings, self.features) if file is not None)


def _create(file: Path, shape: tuple[int, ...], dtype: np.dtype[Any], value: float | None = None) -> None:
    with atomic(file) as partial:
        table = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=shape)
        if value is not None:
            table[:] = value
        table.flush()


def teacher_targets(
    config: TeacherConfig, images: Images, source: str, cache: Path, embedding_size: int
) -> TargetSource:
    """The targets that teachers give for training images.

    They are embeddings of unit length and, if `config.features`, a feature map.

    The teachers are run only where the kept files lack something: a machine that is given whole ones needs no runtime.

    Args:
        source: what the images, and the views of them, were made of; the kept files are named by it.
        embedding_size: what the student gives; embeddings of more dimensions are projected to as many.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a model that can be run, or the embeddings have fewer dimensions than the student's.
    """
    files = targets_files(config, source, cache, embedding_size)
    known = _known(files, len(images), config.views)
    if known is not None:
        return ImageTargets(known, config.views)
    teach = open_teachers(config)
    size = teach(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)).embeddings.shape[-1]
    names = " and ".join(Path(str(model.path)).name for model in config.models)
    if size < embedding_size:
        raise ValueError(
            f"teacher {names} gives embeddings of {size}, the model of {embedding_size}: "
            f"set model.embedding_size={size} or less, or take another teacher"
        )
    if size > embedding_size:
        teach = projected(
            teach, images, embedding_size, files.embeddings.with_name(f"axes-{files.embeddings.stem}.npy")
        )
    return _targets(teach, images, files, config.views, names)


def targets_files(config: TeacherConfig, source: str, cache: Path, embedding_size: int) -> Files:
    """Files that cache the targets; arguments are as for `teacher_targets`.

    Raises:
        FileNotFoundError: a teacher's file is not there.
    """
    total = hashlib.sha256()
    for model in config.models:
        path = Path(str(model.path))
        if not path.is_file():
            raise FileNotFoundError(f"teacher.path: no file {path}")
        total.update(path.read_bytes())
    options = key_material(replace(config, path="", others=[replace(other, path="") for other in config.others]))
    total.update(json.dumps([options, source, embedding_size], sort_keys=True).encode())
    digest = total.hexdigest()[:16]
    features = cache / f"features-{digest}.npy" if config.features else None
    return Files(cache / f"targets-{digest}.npy", features)


def model_targets(model: Any, spec: InputSpec, views: int, images: Images, file: Path) -> TargetSource:
    """The embeddings of a Keras 3 model of ours, of each face or of so many views of it, kept in `file`."""
    lock = threading.Lock()

    def teach(batch: NDArray[np.uint8]) -> TeacherTargets:
        read = normalized(np.stack([resize(image, spec.height) for image in batch]), spec)
        with lock:
            return TeacherTargets(unit_length(np.asarray(model.predict_on_batch(read), dtype=np.float32)))

    return _targets(teach, images, Files(file), views, "the dense model")


def _targets(teach: Teach, images: Images, files: Files, views: int, name: str) -> TargetSource:
    if views:
        return ViewTargets(teach, files, len(images), views)
    return ImageTargets(_all(teach, images, files, name))


def _known(files: Files, count: int, views: int) -> TeacherTargets | None:
    """What is in the files, if they lack nothing.

    Raises:
        ValueError: it is of another number of images.
    """
    if not all(file.is_file() for file in files):
        return None
    table = files.open("r")
    rows = max(views, 1) * count
    if len(table.embeddings) != rows:
        raise ValueError(
            f"{files.embeddings} holds {len(table.embeddings)} embeddings, but there are {rows} to know; delete it"
        )
    return None if np.isnan(table.embeddings[:, 0]).any() else table


def _all(teach: Teach, images: Images, files: Files, name: str, batch_size: int = 32) -> TeacherTargets:
    """Runs `teach` over all images that the file lacks; what a process that was stopped computed stays."""
    known = _known(files, len(images), 0)
    if known is not None:
        return known
    targets = ViewTargets(teach, files, len(images), 1)
    absent = targets.absent()

    def run(indices: NDArray[np.int64]) -> int:
        shown = np.stack([resize(images[index], IMAGE_SIZE) for index in indices])
        targets(indices, np.zeros_like(indices), shown)
        return len(indices)

    progress = Progress(len(images), f"embeddings of {name}", unit="images", done=len(images) - len(absent))
    with ThreadPoolExecutor() as pool:
        for count in pool.map(run, np.split(absent, range(batch_size, len(absent), batch_size))):
            progress.advance(count)
    progress.close()
    return files.open("r")


def open_teachers(config: TeacherConfig) -> Teach:
    """The teachers of a configuration as one: embeddings of unit length, and the feature map of the first of them.

    Several embeddings are concatenated so that a cosine is the weighted mean of the teachers'.

    Raises:
        ValueError: as for `open_teacher`.
    """
    models = config.models
    teachers = [open_teacher(model, config.features if model is config else None) for model in models]
    shares = np.array([model.weight for model in models], np.float32)
    lengths = np.sqrt(shares / shares.sum())

    def teach_unit(teach: Teach, batch: NDArray[np.uint8]) -> TeacherTargets:
        targets = teach(batch)
        embedding = unit_length(targets.embeddings)
        if config.flip:
            mirrored = np.ascontiguousarray(batch[:, :, ::-1])
            embedding = unit_length(embedding + unit_length(teach(mirrored).embeddings))
        return replace(targets, embeddings=embedding)

    def run(batch: NDArray[np.uint8]) -> TeacherTargets:
        targets = [teach_unit(teach, batch) for teach in teachers]
        parts = [length * part.embeddings for length, part in zip(lengths, targets, strict=True)]
        return TeacherTargets(np.concatenate(parts, axis=1), targets[0].features)

    return run


def projected(teach: Teach, images: Images, size: int, file: Path) -> Teach:
    """The teacher with embeddings of `size` dimensions: those in which its embeddings of the images are longest.

    The projection is orthogonal and not centered, so that inner products, which of embeddings of unit length are
    cosines, are kept as well as in so many dimensions they can be (Eckart and Young 1936).

    Args:
        file: keeps the axes, `(dimensions, size)`.
    """
    if not file.is_file():
        chosen = np.random.default_rng(0).permutation(len(images))[:_PROJECTED]
        progress = Progress(len(chosen), "embeddings that the axes are found by", unit="images")
        parts = []
        with ThreadPoolExecutor() as pool:
            for part in pool.map(teach, plain_batches(Selection(images, chosen), IMAGE_SIZE, 32)):
                parts.append(part.embeddings)
                progress.advance(len(part.embeddings))
        progress.close()
        found = np.concatenate(parts)
        axes = np.linalg.eigh(found.T @ found)[1][:, ::-1][:, :size].astype(np.float32)
        # An axis may point either way, and does so on different machines: its largest component is positive.
        axes *= np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=0, keepdims=True), axis=0))
        short = found @ axes
        error = np.abs(unit_length(short) @ unit_length(short[:1000]).T - found @ found[:1000].T).mean()
        logger.info(
            f"teacher: {found.shape[1]} dimensions projected to {size}, which keep "
            f"{100 * np.square(short).sum() / np.square(found).sum():.1f} % of the squared length; cosines are off by "
            f"{error:.4f} on average"
        )
        with atomic(file) as partial:
            np.save(partial, axes)
    kept = np.load(file)

    def run(batch: NDArray[np.uint8]) -> TeacherTargets:
        targets = teach(batch)
        return replace(targets, embeddings=unit_length(targets.embeddings @ kept))

    return run


def open_teacher(config: TeacherModelConfig, features: str | None = None) -> Teach:
    """A function from `(N, 112, 112, 3)` uint8 RGB faces to the teacher's `(N, E)` embeddings and the map asked for.

    Raises:
        ValueError: the file's kind is unknown, it cannot be run, it takes images of another size, or it has no such
            feature map.
    """
    path = Path(str(config.path))
    if path.suffix not in (".tflite", ".onnx"):
        raise ValueError(f"teacher.path {path.name}: expected a .tflite or .onnx file")
    if features and path.suffix != ".onnx":
        raise ValueError(f"teacher.features: feature maps are read from .onnx files, not from {path.name}")
    # One inference of ONNX Runtime has one thread: those that ask are many already.
    threads = (os.cpu_count() or 1) if path.suffix == ".tflite" else 1
    try:
        runner = open_runner(path, config.input, threads, features)
    except Exception as error:  # the runtimes raise what they like on a file that is not a model
        raise ValueError(f"teacher.path {path.name} cannot be opened: {first_line(error)}") from error

    def teach(images: NDArray[np.uint8]) -> TeacherTargets:
        return TeacherTargets(*runner.outputs(cropped(images, config.crop)))

    try:
        teach(np.zeros((1, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8))
    except Exception as error:  # the runtimes raise what they like on an input of another shape
        height, width = config.crop[2:]
        raise ValueError(
            f"teacher {path.name} does not take a {height}x{width} image; set "
            f"teacher.crop=[top,left,height,width] to what it was trained on ({first_line(error)})"
        ) from error
    return teach


def cropped(images: NDArray[np.uint8], crop: Sequence[int]) -> NDArray[np.uint8]:
    """The part of faces, `(N, 112, 112, 3)`, that a model sees: `[top, left, height, width]`."""
    top, left, height, width = crop
    return np.ascontiguousarray(images[:, top : top + height, left : left + width])

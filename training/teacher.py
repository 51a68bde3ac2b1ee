"""Embeddings of a teacher for training images or for views of them, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.batches import Targets, normalize, plain_batches, resize
from training.data.faces import IMAGE_SIZE, Images
from training.files import atomic
from training.progress import Progress
from training.recipe import TeacherConfig
from training.verification import unit_length

Float = NDArray[np.float32]
Embed = Callable[[NDArray[np.uint8]], Float]


@dataclass(frozen=True)
class ImageTargets:
    """Targets that are all known, rows of `table`: `(N, E)`, or `(views * N, E)`, one block for each view."""

    table: Float
    views: int = 0

    def __call__(self, indices: NDArray[np.int64], variants: NDArray[np.int64], images: NDArray[np.uint8]) -> Float:
        del images
        block = len(self.table) // self.views if self.views else 0
        rows: Float = self.table[variants * block + indices]
        return rows


class ViewTargets:
    """A target for each of `views` views of each image, computed when first asked for and kept in a file.

    Rows that are not known yet are NaN. Several threads may ask at once.
    """

    def __init__(self, embed: Embed, file: Path, count: int, views: int, embedding_size: int) -> None:
        if not file.is_file():
            with atomic(file) as partial:
                shape = (views * count, embedding_size)
                empty = np.lib.format.open_memmap(partial, mode="w+", dtype=np.float32, shape=shape)
                empty[:] = np.nan
                empty.flush()
        self.views = views
        self._embed, self._count = embed, count
        self._table: Float = np.load(file, mmap_mode="r+")

    def __call__(self, indices: NDArray[np.int64], variants: NDArray[np.int64], images: NDArray[np.uint8]) -> Float:
        rows = variants * self._count + indices
        found: Float = self._table[rows]
        absent = np.isnan(found[:, 0])
        if absent.any():
            found[absent] = self._embed(images[absent])
            self._table[rows[absent]] = found[absent]
        return found


def teacher_targets(config: TeacherConfig, images: Images, source: str, cache: Path, embedding_size: int) -> Targets:
    """The embeddings of a teacher for training images, unit length.

    The teacher is run only where the kept file lacks some: a machine that is given a whole one needs no runtime for it.

    Args:
        source: what the images, and the views of them, were made of; with the teacher's digest it names the kept file.
        embedding_size: what the student gives.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a model that can be run, or its embeddings have another size.
    """
    file = targets_file(config, source, cache)
    known = _known(file, len(images), config.views)
    if known is not None:
        _check_size(config, known.shape[1], embedding_size)
        return ImageTargets(known, config.views)
    embed = open_teacher(config)
    try:
        size = embed(np.zeros((1, 112, 112, 3), np.uint8)).shape[-1]
    except Exception as error:  # the runtimes raise what they like on an input of another shape
        height, width = config.crop[2:]
        raise ValueError(
            f"teacher {Path(str(config.path)).name} does not take a {height}x{width} image; set "
            f"teacher.crop=[top,left,height,width] to what it was trained on ({str(error).strip().splitlines()[0]})"
        ) from error
    _check_size(config, size, embedding_size)
    return _targets(embed, images, file, config, embedding_size, Path(str(config.path)).name)


def targets_file(config: TeacherConfig, source: str, cache: Path) -> Path:
    """Where the embeddings of a teacher are kept; `source` is as for `teacher_targets`.

    Raises:
        FileNotFoundError: the teacher's file is not there.
    """
    path = Path(str(config.path))
    if not path.is_file():
        raise FileNotFoundError(f"teacher.path: no file {path}")
    options = json.dumps({k: v for k, v in asdict(config).items() if k != "path"}, sort_keys=True)
    digest = hashlib.sha256(path.read_bytes() + options.encode() + source.encode()).hexdigest()[:16]
    return cache / f"targets-{digest}.npy"


def model_targets(model: Any, config: TeacherConfig, images: Images, file: Path) -> Targets:
    """The same for a Keras 3 model of ours, kept in `file`."""
    size = int(model.inputs[0].shape[1])
    lock = threading.Lock()

    def embed(batch: NDArray[np.uint8]) -> Float:
        resized = normalize(np.stack([resize(image, size) for image in batch]))
        with lock:
            return np.asarray(model.predict_on_batch(resized), dtype=np.float32)

    return _targets(embed, images, file, config, int(model.output_shape[-1]), "the dense model")


def _targets(
    embed: Embed, images: Images, file: Path, config: TeacherConfig, embedding_size: int, name: str
) -> Targets:
    def embed_unit(batch: NDArray[np.uint8]) -> Float:
        embedding = unit_length(embed(batch))
        if config.flip:
            mirrored = np.ascontiguousarray(batch[:, :, ::-1])
            embedding = unit_length(embedding + unit_length(embed(mirrored)))
        return embedding

    if config.views:
        return ViewTargets(embed_unit, file, len(images), config.views, embedding_size)
    return ImageTargets(_all(embed_unit, images, file, name))


def _known(file: Path, count: int, views: int) -> Float | None:
    """The table in a file, if it lacks no row.

    Raises:
        ValueError: it is of another number of images.
    """
    if not file.is_file():
        return None
    table: Float = np.load(file, mmap_mode="r")
    rows = max(views, 1) * count
    if len(table) != rows:
        raise ValueError(f"{file} holds {len(table)} embeddings, but there are {rows} to know; delete it")
    return None if np.isnan(table[:, 0]).any() else table


def _check_size(config: TeacherConfig, size: int, embedding_size: int) -> None:
    if size != embedding_size:
        raise ValueError(
            f"teacher {Path(str(config.path)).name} gives embeddings of {size}, the model of {embedding_size}: "
            f"set model.embedding_size={size} or take another teacher"
        )


def _all(embed: Embed, images: Images, file: Path, name: str, batch_size: int = 32) -> Float:
    """Runs `embed` over all images, unless `file` has the result already."""
    known = _known(file, len(images), 0)
    if known is not None:
        return known
    parts = []
    progress = Progress(len(images), f"embeddings of {name}", unit="images")
    with ThreadPoolExecutor() as pool:
        for part in pool.map(embed, plain_batches(images, IMAGE_SIZE, batch_size)):
            parts.append(part)
            progress.advance(len(part))
    progress.close()
    targets = np.concatenate(parts)
    with atomic(file) as partial:
        np.save(partial, targets)
    return targets


def open_teacher(config: TeacherConfig) -> Embed:
    """A function from `(N, 112, 112, 3)` uint8 RGB faces to the teacher's `(N, E)` embeddings.

    Raises:
        ValueError: the file's kind is unknown, or it cannot be run.
    """
    path = Path(str(config.path))
    openers = {".tflite": _open_tflite, ".onnx": _open_onnx}
    if path.suffix not in openers:
        raise ValueError(f"teacher.path {path.name}: expected a {' or '.join(openers)} file")
    try:
        run = openers[path.suffix](path)
    except Exception as error:  # the runtimes raise what they like on a file that is not a model
        raise ValueError(f"teacher.path {path.name} cannot be opened: {str(error).splitlines()[0]}") from error
    top, left, height, width = config.crop

    def embed(images: NDArray[np.uint8]) -> Float:
        pixels = images[:, top : top + height, left : left + width]
        if config.color == "bgr":
            pixels = pixels[..., ::-1]
        return run((pixels.astype(np.float32) - np.float32(config.mean)) / np.float32(config.scale))

    return embed


def _open_tflite(path: Path) -> Callable[[Float], Float]:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=os.cpu_count())
    interpreter.allocate_tensors()
    lock = threading.Lock()
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def one(image: Float) -> Float:
        with lock:
            interpreter.set_tensor(source["index"], _quantized(image, source))
            interpreter.invoke()
            return _dequantized(interpreter.get_tensor(result["index"]), result).reshape(1, -1)

    return lambda images: np.concatenate([one(image[None]) for image in images])


def _open_onnx(path: Path) -> Callable[[Float], Float]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Threads of the caller are many already, and its own would wait spinning while the student trains.
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    source = session.get_inputs()[0]
    channels_first = source.shape[1] == 3
    one_by_one = source.shape[0] == 1

    def run(images: Float) -> Float:
        if channels_first:
            images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        parts = np.split(images, len(images)) if one_by_one else [images]
        outputs = [session.run(None, {source.name: part})[0] for part in parts]
        return np.concatenate(outputs).reshape(len(images), -1).astype(np.float32)

    return run


def _quantized(values: Float, details: dict[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(details["dtype"])
    if dtype == np.float32:
        return values
    scale, zero = details["quantization"]
    limits = np.iinfo(dtype)
    quantized: NDArray[Any] = np.clip(np.round(values / scale) + zero, limits.min, limits.max).astype(dtype)
    return quantized


def _dequantized(values: NDArray[Any], details: dict[str, Any]) -> Float:
    if values.dtype == np.float32:
        return values
    scale, zero = details["quantization"]
    real: Float = ((values.astype(np.float32) - zero) * scale).astype(np.float32)
    return real

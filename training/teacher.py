"""Embeddings of a teacher for every training image, computed once and kept."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.batches import normalize, plain_batches
from training.data.faces import Images
from training.files import atomic
from training.progress import Progress
from training.recipe import TeacherConfig
from training.verification import unit_length

Float = NDArray[np.float32]
Embed = Callable[[NDArray[np.uint8]], Float]


def teacher_targets(config: TeacherConfig, images: Images, data: str, cache: Path, embedding_size: int) -> Float:
    """The teacher's embedding of each image, `(N, E)` float32, unit length.

    Args:
        data: fingerprint of the images; with the teacher's digest it names the cached file.
        embedding_size: what the student gives.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a model that can be run, or its embeddings have another size.
    """
    assert config.path is not None
    path = Path(config.path)
    if not path.is_file():
        raise FileNotFoundError(f"teacher.path: no file {path}")
    options = json.dumps({k: v for k, v in asdict(config).items() if k != "path"}, sort_keys=True)
    digest = hashlib.sha256(path.read_bytes() + options.encode() + data.encode()).hexdigest()[:16]
    embed = open_teacher(config)
    try:
        size = embed(np.zeros((1, 112, 112, 3), np.uint8)).shape[-1]
    except Exception as error:  # the runtimes raise what they like on an input of another shape
        height, width = config.crop[2:]
        raise ValueError(
            f"teacher {path.name} does not take a {height}x{width} image; set teacher.crop=[top,left,height,width] to "
            f"what it was trained on ({str(error).strip().splitlines()[0]})"
        ) from error
    if size != embedding_size:
        raise ValueError(
            f"teacher {path.name} gives embeddings of {size}, the model of {embedding_size}: "
            f"set model.embedding_size={size} or take another teacher"
        )
    return cached_targets(embed, images, cache / f"targets-{digest}.npy", flip=config.flip, name=path.name)


def model_targets(model: Any, images: Images, file: Path) -> Float:
    """The same for a Keras 3 model of ours, kept in `file`."""
    size = int(model.inputs[0].shape[1])

    def embed(batch: NDArray[np.uint8]) -> Float:
        return np.asarray(model.predict_on_batch(normalize(batch)), dtype=np.float32)

    return cached_targets(embed, images, file, flip=False, name="the dense model", size=size, batch_size=64)


def cached_targets(
    embed: Embed, images: Images, file: Path, *, flip: bool, name: str, size: int = 112, batch_size: int = 16
) -> Float:
    """Runs `embed` over all images unless `file` has the result already; see `teacher_targets`."""
    if file.is_file():
        known: Float = np.load(file)
        if len(known) != len(images):
            raise ValueError(f"{file} holds {len(known)} embeddings, but there are {len(images)} images; delete it")
        return known
    parts = []
    progress = Progress(len(images), f"embeddings of {name}", unit="images")
    for batch in plain_batches(images, size, batch_size):
        embedding = unit_length(embed(batch))
        if flip:
            embedding = unit_length(embedding + unit_length(embed(np.ascontiguousarray(batch[:, :, ::-1]))))
        parts.append(embedding)
        progress.advance(len(batch))
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
    source, result = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def one(image: Float) -> Float:
        interpreter.set_tensor(source["index"], _quantized(image, source))
        interpreter.invoke()
        return _dequantized(interpreter.get_tensor(result["index"]), result).reshape(1, -1)

    return lambda images: np.concatenate([one(image[None]) for image in images])


def _open_onnx(path: Path) -> Callable[[Float], Float]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
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

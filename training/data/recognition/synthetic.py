"""Rendered faces of people who do not exist: a data source that needs no download and no consent.

An identity is a geometry of the face with its skin, hair, brows, eyes, nose, mouth and marks. Pose, expression, light,
glasses, blur, background and the detector's error change from image to image and are strong enough that pixels alone
verify nobody.
"""

from __future__ import annotations

import functools
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.deploy.common.result_key import KEY_UNLESS_DEFAULT, NOT_KEY, key_material
from slimcam.training.data.drawing.portrait import DRAWING_VERSION, draw, draw_face
from slimcam.training.data.drawing.traits import sample_person, sample_shot
from slimcam.training.data.images import IMAGE_SIZE, Image
from slimcam.training.data.recognition.faces import FaceData, FaceSet, Verification
from slimcam.training.data.recognition.pairs import sample_pairs
from slimcam.training.fit.progress import Progress

__all__ = ["SyntheticConfig", "draw_face", "fingerprint", "load"]

_TEST_BIT = 1 << 32
"""Set in the seeds of test identities, which so are never those of training ones."""

_HELD_OUT_BIT = 1 << 31
"""Set in the seeds of people held out, of whom there may be as many."""


@dataclass
class SyntheticConfig:
    """Synthetic faces to train on and to evaluate on.

    Attributes:
        identities: Number of people to train on.
        images_per_identity: Number of images of each person to train on.
        test_identities: Number of people for verification, others than those to train on.
        test_images_per_identity: Number of images of each person for verification.
        test_pairs: Number of verification pairs, half of them genuine.
        held_out_identities: Number of further people by whom the best weights are chosen (`fit.validations`), with as
            many images each and as many pairs as there are for verification.
        seed: Seed of the people; others give other people.
        workers: Drawing processes; 0 for one per core. The faces do not depend on it.
    """

    task: ClassVar[str] = "recognition"

    kind: str = "synthetic"
    identities: int = 1000
    images_per_identity: int = 20
    test_identities: int = 200
    test_images_per_identity: int = 10
    test_pairs: int = 4000
    seed: int = 0
    workers: int = field(default=0, metadata=NOT_KEY)
    held_out_identities: int = field(default=0, metadata=KEY_UNLESS_DEFAULT)


def load(config: SyntheticConfig, cache: Path) -> FaceData:
    """Renders the faces, or maps them from the cache where an earlier call has rendered them.

    Args:
        cache: folder to keep the rendered images in, about 38 kB each.

    Raises:
        ValueError: a figure of the config is out of range.
        OSError: the cache cannot be written, or a drawing process died.
    """
    _check(config)
    train = _face_set(config, cache, "person", 0, config.identities, config.images_per_identity)
    test = _face_set(config, cache, "test person", _TEST_BIT, config.test_identities, config.test_images_per_identity)
    held_out: tuple[Verification, ...] = ()
    if count := config.held_out_identities:
        others = _face_set(config, cache, "other", _HELD_OUT_BIT, count, config.test_images_per_identity)
        held_out = (Verification(others, sample_pairs(others.labels, config.test_pairs, seed=config.seed)),)
    pairs = sample_pairs(test.labels, config.test_pairs, seed=config.seed)
    return FaceData(train=train, test=test, pairs=pairs, held_out=held_out)


def fingerprint(config: SyntheticConfig) -> str:
    """A digest of everything that decides the content of the faces and pairs; draws nothing."""
    return _digest([DRAWING_VERSION, key_material(config)])


def _check(config: SyntheticConfig) -> None:
    least = {
        "identities": 1,
        "images_per_identity": 1,
        "test_identities": 2,
        "test_images_per_identity": 2,
        "test_pairs": 2,
        "seed": 0,
        "workers": 0,
    }
    for name, bound in least.items():
        value = getattr(config, name)
        if value < bound:
            raise ValueError(f"synthetic data: {name} must be at least {bound}; got {value}")
    if config.held_out_identities < 0 or config.held_out_identities == 1:
        raise ValueError(f"synthetic data: held_out_identities is 0, or 2 or more; got {config.held_out_identities}")
    if max(config.identities, config.test_identities, config.held_out_identities) > _HELD_OUT_BIT:
        raise ValueError(f"synthetic data: at most {_HELD_OUT_BIT} identities can be rendered; ask for fewer")


def _face_set(config: SyntheticConfig, cache: Path, name: str, first: int, people: int, images: int) -> FaceSet:
    first |= config.seed << 33
    path = cache / f"synthetic-{_digest([DRAWING_VERSION, first, people, images])}.npy"
    shape = (people * images, IMAGE_SIZE, IMAGE_SIZE, 3)
    drawn = _mapped(path, shape)
    if drawn is None:
        _draw_to(path, range(first, first + people), images, config.workers or os.cpu_count() or 1)
        drawn = _mapped(path, shape)
        if drawn is None:
            raise OSError(f"{path}: the faces just rendered cannot be read back; check the disk")
    labels = np.repeat(np.arange(people, dtype=np.int32), images)
    return FaceSet(images=drawn, labels=labels, identities=tuple(f"{name} {i}" for i in range(people)))


def _mapped(path: Path, shape: tuple[int, ...]) -> Image | None:
    """The images of an earlier call, or None where there are none or the file is damaged."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def _draw_to(path: Path, identities: range, images: int, workers: int) -> None:
    shape = (len(identities) * images, IMAGE_SIZE, IMAGE_SIZE, 3)
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    progress = Progress(shape[0], "drawing faces", unit="images")
    try:
        # Written in order rather than into a memory map, where a full disk would kill the process.
        with (
            atomic(path) as partial,
            partial.open("wb") as file,
            _people(identities, images, min(workers, len(identities))) as people,
        ):
            np.lib.format.write_array_header_1_0(file, header)
            for person in people:
                file.write(person.tobytes())
                progress.advance(images)
    except BrokenProcessPool as error:
        raise OSError(f"a process that drew faces died with {workers} workers; set fewer workers") from error
    progress.close()


@contextmanager
def _people(identities: range, images: int, workers: int) -> Iterator[Iterable[Image]]:
    """The images of each identity in order, `(images, 112, 112, 3)` at a time."""
    draw = functools.partial(_draw_person, images=images)
    if workers == 1:
        yield map(draw, identities)
        return
    # Spawned, because a forked TensorFlow process can deadlock.
    executor = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_prepare_worker
    )
    try:
        yield executor.map(draw, identities)
    finally:
        executor.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    cv2.setNumThreads(1)
    # Ctrl-C reaches every process of the terminal; the parent alone answers it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _draw_person(identity_seed: int, images: int) -> NDArray[np.uint8]:
    person = sample_person(identity_seed)
    return np.stack([draw(person, sample_shot(identity_seed, image_seed)) for image_seed in range(images)])


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

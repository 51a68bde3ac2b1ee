"""Verification packs of InsightFace, `lfw.bin`, `cfp_fp.bin`, `agedb_30.bin`: encoded images in pairs, without names.

A pack is a pickle of a list of encoded images, two for each pair, and a list that says of each pair whether it is
genuine (https://github.com/deepinsight/insightface, recognition/arcface_torch/eval/verification.py). A pickle can run
any program, so that this one is read by an unpickler that knows lists, bytes and numbers, and arrays of numbers alone.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slimcam.deploy.common.files import atomic
from slimcam.deploy.common.messages import first_line
from slimcam.training.data.images import Image, existing
from slimcam.training.data.recognition.faces import UNLABELED, FaceSet, Pairs, Verification
from slimcam.training.data.recognition.folders import decode_image

FOLDS = 10

_ALLOWED = {
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *(("numpy", name) for name in ("ndarray", "dtype")),
    # What Python 3 writes bytes as for Python 2.
    ("_codecs", "encode"),
}


class PackedPairs:
    """The encoded images of a pack, decoded when asked for."""

    def __init__(self, contents: Sequence[bytes], path: Path) -> None:
        self._contents, self.path = contents, path

    def __len__(self) -> int:
        return len(self._contents)

    def encoded(self, index: int) -> NDArray[np.uint8]:
        """The bytes of an image as they are stored."""
        return np.frombuffer(self._contents[index], np.uint8)

    def __getitem__(self, index: int, /) -> Image:
        image = decode_image(self.encoded(index))
        if image is None:
            raise ValueError(f"{self.path}: image {index} is not readable; copy the pack again")
        return image


def read(path: Path) -> Verification:
    """The pairs of a pack, dealt into ten folds in their order, as its own evaluation does.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a pack, a truncated one, or one that asks for something else than data.
    """
    content = existing(path).read_bytes()
    try:
        images, same = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        encoded = [_bytes(image) for image in images]
        genuine = np.array([bool(each) for each in same])
    except _NotDataError as error:
        raise ValueError(f"{path}: {error}; it is not a verification pack, and was not run") from error
    # What pickle raises on something else, or on a part of one.
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise ValueError(f"{path}: not a whole verification pack ({first_line(error)}); copy it again") from error
    except (MemoryError, OverflowError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not a verification pack ({type(error).__name__})") from error
    if len(encoded) != 2 * len(genuine) or not 0 < genuine.sum() < len(genuine):
        raise ValueError(
            f"{path}: expected two images for each pair, and pairs of both kinds; got {len(encoded)} images and "
            f"{len(genuine)} pairs, {int(genuine.sum())} of them genuine"
        )
    count = len(genuine)
    labels = np.full(2 * count, UNLABELED, np.int32)
    left = np.arange(0, 2 * count, 2, dtype=np.int32)
    # As sklearn.model_selection.KFold deals pairs: in blocks of their order.
    fold = np.repeat(np.arange(FOLDS), [len(part) for part in np.array_split(left, FOLDS)]).astype(np.int32)
    return Verification(
        FaceSet(PackedPairs(encoded, path), labels, ()), Pairs(left, left + 1, genuine, fold), path.stem
    )


def write(path: Path, encoded: Sequence[bytes], same: NDArray[np.bool_]) -> None:
    """Writes a pack, atomically.

    Args:
        encoded: images as the bytes of their files, two for each pair.
        same: `(P,)`, whether each pair is genuine.
    """
    if len(encoded) != 2 * len(same):
        raise ValueError(f"two images for each pair are needed; got {len(encoded)} images and {len(same)} pairs")
    with atomic(path) as partial, partial.open("wb") as file:
        pickle.dump((list(encoded), [bool(each) for each in same]), file, protocol=4)


class _NotDataError(Exception):
    """The pickle asks for a function or class that holds no data."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise _NotDataError(f"it asks for {module}.{name}")
        # An older numpy's module still is there under its old name, with a warning.
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)


def _bytes(image: Any) -> bytes:
    if isinstance(image, np.ndarray) and image.dtype == np.uint8:
        return image.tobytes()
    if isinstance(image, bytes):
        return image
    raise TypeError(f"an image is {type(image).__name__}, not bytes")

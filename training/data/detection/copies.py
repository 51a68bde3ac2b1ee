"""Photographs that are copies of each other: resized, darkened, mirrored, turned by right angles, or little changed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Image

Float = NDArray[np.float32]

ALIKE = 0.93
"""Correlation of two thumbnails from which on they are of copies."""

_SIDE = 16
_BLOCK = 1024


def thumbnail(image: Image) -> Float:
    """`(16, 16)`: the image in gray, squeezed into a square, with mean 0 and length 1. Plain images give zeros."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    return small / length if length > _SIDE else np.zeros_like(small)


def copy_groups(thumbnails: Sequence[Float]) -> NDArray[np.int64]:
    """The group of copies that each image is in, `(N,)`: the number of its first image.

    Copies of copies are in one group. All eight ways of mirroring and turning by right angles are looked at.
    """
    count = len(thumbnails)
    groups = np.arange(count)
    if not count:
        return groups
    flat = np.stack(thumbnails).reshape(count, -1)
    squares = flat.reshape(-1, _SIDE, _SIDE)
    turned = [np.rot90(view, turns, (1, 2)) for view in (squares, squares[:, :, ::-1]) for turns in range(4)]
    for variant in turned:
        columns = np.ascontiguousarray(variant.reshape(count, -1).T)
        for start in range(0, count, _BLOCK):
            for first, second in np.argwhere(flat[start : start + _BLOCK] @ columns >= ALIKE):
                _join(groups, int(first) + start, int(second))
    return np.array([_root(groups, index) for index in range(count)], dtype=np.int64)


def _join(groups: NDArray[np.int64], first: int, second: int) -> None:
    one, other = _root(groups, first), _root(groups, second)
    groups[max(one, other)] = min(one, other)


def _root(groups: NDArray[np.int64], index: int) -> int:
    while groups[index] != index:
        groups[index] = groups[groups[index]]
        index = int(groups[index])
    return index

"""Vectors of unit length."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Float = TypeVar("Float", np.float32, np.float64)


def unit_length(vectors: NDArray[Float]) -> NDArray[Float]:
    """Divides vectors by their L2 norm.

    Args:
        vectors: `(..., E)` float; each along the last axis.

    Returns:
        The same shape and type, of length 1; a vector of zeros stays zero.
    """
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), vectors.dtype)

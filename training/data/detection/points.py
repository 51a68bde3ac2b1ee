"""Five points of faces in mirror images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Float


def mirrored(points: NDArray[np.floating], width: int) -> Float:
    """Points of faces, `(..., 5, 2)`, in the mirror image of a picture: what was left is right, also by name."""
    swapped = points[..., [1, 0, 2, 4, 3], :]
    return np.stack([width - 1 - swapped[..., 0], swapped[..., 1]], axis=-1).astype(np.float32)

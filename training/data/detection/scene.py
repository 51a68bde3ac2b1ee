"""Pictures whose faces are known by their points, see `slimcam.training.tasks.detection.metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Image, decode

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Scene:
    """A picture and all faces in it.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        points: `(N, 5, 2)` float32, see `slimcam.training.tasks.detection.metrics`.
        boxed: `(N,)`, faces of which only the size and the middle of the points are known; none by default.
        ignored: `(K, 4)` boxes x, y, width, height of which is not known whether they are faces.
    """

    image: Image
    points: Float
    boxed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    ignored: Float = field(default_factory=lambda: np.zeros((0, 4), dtype=np.float32))

    def __post_init__(self) -> None:
        if not len(self.boxed):
            object.__setattr__(self, "boxed", np.zeros(len(self.points), dtype=bool))


@dataclass(frozen=True)
class Picture:
    """A picture with the points of the one face in it.

    Attributes:
        pixels: Bytes of an image file, or `(H, W, 3)` uint8 RGB.
        points: `(5, 2)` float32.
    """

    pixels: NDArray[np.uint8]
    points: Float

    def image(self) -> Image:
        """`(H, W, 3)` uint8 RGB."""
        if self.pixels.ndim == 3:
            return self.pixels
        image = decode(self.pixels)
        if image is None:
            raise ValueError("a picture that could be read no longer can")
        return image


@dataclass(frozen=True)
class Sources:
    """What scenes are composed of.

    Attributes:
        photos: Faces with their surroundings, in which there is no other face.
        crops: Faces with little around them, for small and middling ones; may be none where there are photos.
    """

    photos: Sequence[Picture]
    crops: Sequence[Picture]

    def __post_init__(self) -> None:
        if not len(self.photos) and not len(self.crops):
            raise ValueError("scenes need a face to compose at the least")

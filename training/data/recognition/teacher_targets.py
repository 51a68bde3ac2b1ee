"""What a teacher says of training images, as batches carry it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from training.data.images import Float


@dataclass(frozen=True)
class Lesson:
    """What a teacher says of some images.

    Attributes:
        embeddings: `(N, E)` float32.
        features: `(N, h, w, C)`, one of its feature maps, if that is imitated too.
    """

    embeddings: Float
    features: NDArray[np.floating] | None = None

    @property
    def channels(self) -> int:
        return 0 if self.features is None else int(self.features.shape[-1])

    def __getitem__(self, rows: NDArray[np.int64]) -> Lesson:
        return Lesson(self.embeddings[rows], None if self.features is None else self.features[rows])

    def put(self, rows: NDArray[np.int64], said: Lesson) -> None:
        """Overwrites rows; the embeddings last."""
        if self.features is not None:
            assert said.features is not None
            self.features[rows] = said.features
        self.embeddings[rows] = said.embeddings


class Targets(Protocol):
    """What a teacher says of images.

    Attributes:
        views: how many augmented views of each image are told apart; 0 where every view has its image's target.
        channels: of the feature maps; 0 where there are none.
    """

    @property
    def views(self) -> int: ...

    @property
    def channels(self) -> int: ...

    def __call__(self, indices: NDArray[np.int64], variants: NDArray[np.int64], images: NDArray[np.uint8]) -> Lesson:
        """Of the images at `indices`, of which the student sees these variants, `(B, 112, 112, 3)`."""
        ...

"""Targets that a teacher gives for training images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Float


@dataclass(frozen=True)
class TeacherTargets:
    """Outputs of a teacher for some images, which a student is trained to reproduce.

    Attributes:
        embeddings: Embeddings, `(N, E)` float32.
        features: Feature maps, `(N, h, w, C)`, if those are distilled too.
    """

    embeddings: Float
    features: NDArray[np.floating] | None = None

    @property
    def channels(self) -> int:
        return 0 if self.features is None else int(self.features.shape[-1])

    def __getitem__(self, rows: NDArray[np.int64]) -> TeacherTargets:
        return TeacherTargets(self.embeddings[rows], None if self.features is None else self.features[rows])

    def put(self, rows: NDArray[np.int64], targets: TeacherTargets) -> None:
        """Overwrites rows; the embeddings last."""
        if self.features is not None:
            assert targets.features is not None
            self.features[rows] = targets.features
        self.embeddings[rows] = targets.embeddings


class TargetSource(Protocol):
    """Gives the targets of training images.

    Attributes:
        views: Number of augmented views of each image that have targets of their own; 0 where all share the image's.
        channels: Channels of the feature maps; 0 where there are none.
    """

    @property
    def views(self) -> int: ...

    @property
    def channels(self) -> int: ...

    def __call__(
        self, indices: NDArray[np.int64], variants: NDArray[np.int64], images: NDArray[np.uint8]
    ) -> TeacherTargets:
        """The targets of the images at `indices`, of which the student sees these variants, `(B, 112, 112, 3)`."""
        ...

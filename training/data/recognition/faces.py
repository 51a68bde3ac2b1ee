"""The one interface between data and everything that learns from it or is evaluated on it.

Images are aligned faces, uint8 RGB of shape `(112, 112, 3)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from slimcam.training.data.images import Images

UNLABELED = -1
"""The label of a face that is no known person's: a classification loss leaves it out (`one_hot` makes zeros of it)."""


@dataclass(frozen=True)
class FaceSet:
    """Images with the identity of each.

    Attributes:
        images: The images, `N` of them.
        labels: Index into `identities`, or `UNLABELED`, `(N,)` int32.
        identities: Names, one for each label.
    """

    images: Images
    labels: NDArray[np.int32]
    identities: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.images)} images, but {len(self.labels)} labels")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def unlabeled(self) -> int:
        """How many of the faces have no name."""
        return int(np.count_nonzero(self.labels == UNLABELED))


@dataclass(frozen=True)
class Pairs:
    """A verification protocol: which pairs of images show the same person.

    Attributes:
        left: Index of the first image, `(P,)` int32.
        right: Index of the second image, `(P,)` int32.
        same: Whether the pair is genuine, `(P,)` bool.
        fold: Fold of cross-validation that the pair belongs to, `(P,)` int32.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    same: NDArray[np.bool_]
    fold: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.same)


@dataclass(frozen=True)
class Verification:
    """Faces, and pairs of them to tell apart; every cross-identity pair is an impostor pair.

    Attributes:
        source: Folder that all of the faces are from, if nothing was trained on any of it.
    """

    faces: FaceSet
    pairs: Pairs
    source: str | None = None


@dataclass(frozen=True)
class FaceData:
    """What a data source gives: faces to learn from, other people's faces to be evaluated on, and what was left out.

    Attributes:
        train: Faces to learn from.
        test: Faces of people who are not in `train`; every cross-identity pair is an impostor pair.
        pairs: Verification protocol on `test`.
        notes: One line for each thing the source skipped, for example an unreadable file.
        held_out: Further verification sets of other people, so that `test` stays unseen; by the first of them the
            best weights of a training are chosen.
    """

    train: FaceSet
    test: FaceSet
    pairs: Pairs
    notes: Sequence[str] = field(default=())
    held_out: tuple[Verification, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.train) or not len(self.pairs):
            raise ValueError(
                f"data: {len(self.train)} images to train on and {len(self.pairs)} verification pairs; both are needed"
            )
